"""Public data sets by name: downloaded and verified by torchvision, parsed here without ever unpickling anything."""

from __future__ import annotations

import http.client
import importlib.util
import logging
import shutil
import socket
import tarfile
import tempfile
import urllib.error
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mvp_edge.core.errors import DataError
from mvp_edge.core.places import cache_dir
from mvp_edge.data.folder import Listing
from mvp_edge.data.formats import caltech101, cifar, files_of, pets, stl10, torchvision_set

_log = logging.getLogger(__name__)
_TIMEOUT_S = 30.0
_FAILURES = (
    OSError,
    RuntimeError,
    EOFError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
_CIFAR = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class _Named:
    """How to get and read one data set.

    Attributes:
        url: Of the archive.
        fetch: Downloads and unpacks into a directory.
        parse: Lists the classes and images in that directory.
        needs: Package that torchvision wants for it.
    """

    url: str
    fetch: Callable[[Path, str], None]
    parse: Callable[[Path], Listing]
    needs: str | None = None


def open_named(name: str) -> tuple[Listing, Path]:
    """Open one of `NAMES`, downloading it first where the cache does not have it.

    Returns:
        The listing and the directory that holds the data.

    Raises:
        DataError: If the download fails or what lies in the cache cannot be understood.
    """
    recipe = _SETS[name]
    if recipe.needs and importlib.util.find_spec(recipe.needs) is None:
        raise DataError(
            f"{name} needs the package {recipe.needs}: type `pip install {recipe.needs}`, "
            "or unpack the images yourself and give the directory with --data DIR"
        )
    target = cache_dir() / "datasets" / name
    if not target.is_dir():
        _download(name, recipe, target)
    try:
        return recipe.parse(target), target
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise DataError(f"{target} is damaged ({error}); delete it, and {name} is downloaded again") from error


def _download(name: str, recipe: _Named, target: Path) -> None:
    """Unpack into a temporary directory and rename it last, so that `target` is complete whenever it exists."""
    _log.info("downloading %s from %s to %s", name, recipe.url, target)
    staging = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
        with _connection_timeout(_TIMEOUT_S):
            recipe.fetch(staging, recipe.url)
        for archive in (path for pattern in ("*.tar.gz", "*.tgz", "*.zip") for path in staging.rglob(pattern)):
            archive.unlink()
        staging.chmod(0o755)
        staging.rename(target)
    except _FAILURES as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection open
        if not target.is_dir():  # where it is, another process was faster
            raise DataError(_no_download(name, recipe, target, error)) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _no_download(name: str, recipe: _Named, target: Path, error: Exception) -> str:
    return (
        f"cannot download {name} from {recipe.url} into {target}: {error}; check the network and the disk space, "
        f"or copy {target} from a machine that has it (MVP_EDGE_CACHE names another cache directory), "
        "or give a local folder of images with --data DIR"
    )


@contextmanager
def _connection_timeout(seconds: float) -> Iterator[None]:
    """Let a dead network fail instead of hanging: torchvision's downloader sets no timeout of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _archive(md5: str) -> Callable[[Path, str], None]:
    def fetch(root: Path, url: str) -> None:
        from torchvision.datasets.utils import download_and_extract_archive

        download_and_extract_archive(url, str(root), md5=md5, remove_finished=True)

    return fetch


def _dataset(class_name: str) -> Callable[[Path, str], None]:
    def fetch(root: Path, url: str) -> None:
        torchvision_set(class_name)(root=str(root), download=True)

    return fetch


_SETS = {
    "cifar10": _Named(
        _CIFAR + "cifar-10-binary.tar.gz",
        _archive("c32a1d4ab5d03f1284b67883e8d87530"),
        cifar(
            "cifar-10-batches-bin",
            {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
            "batches.meta.txt",
            label_bytes=1,
        ),
    ),
    "cifar100": _Named(
        _CIFAR + "cifar-100-binary.tar.gz",
        _archive("03b5dce01913d631647c71ecec9e9cb8"),
        cifar(
            "cifar-100-binary", {"train": ("train.bin",), "test": ("test.bin",)}, "fine_label_names.txt", label_bytes=2
        ),
    ),
    "caltech101": _Named("https://data.caltech.edu/records/mzrjq-6wc02", _dataset("Caltech101"), caltech101),
    "flowers102": _Named(
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        _dataset("Flowers102"),
        files_of("Flowers102", {"train": ("train", "val"), "test": ("test",)}),
        needs="scipy",
    ),
    "oxfordiiitpet": _Named("https://www.robots.ox.ac.uk/~vgg/data/pets/", _dataset("OxfordIIITPet"), pets),
    "food101": _Named(
        "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
        _dataset("Food101"),
        files_of("Food101", {"train": ("train",), "test": ("test",)}),
    ),
    "stl10": _Named(
        "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        _archive("91f7769df0f17e558f3565bffb0c7dfb"),
        stl10,
    ),
}
NAMES = tuple(_SETS)
"""The data sets that can be opened by name."""
