"""Public data sets by name: torchvision downloads and verifies them; they are parsed here, never unpickled."""

from __future__ import annotations

import http.client
import logging
import shutil
import socket
import tarfile
import tempfile
import urllib.error
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mvp_edge.core.errors import DataError
from mvp_edge.core.places import cache_dir
from mvp_edge.data.folder import list_classes
from mvp_edge.data.images import OnImage, Pixels, Size, resize
from mvp_edge.data.listing import FileReader, Listing, Split, divide, spread


@dataclass(frozen=True, eq=False)
class ArrayReader:
    """Reads images from memory.

    Attributes:
        images: For each split, uint8 `(N, 3, h, w)`.
        labels: For each split, the class positions `(N,)`.
    """

    images: dict[Split, np.ndarray]
    labels: dict[Split, np.ndarray]

    def count(self, split: Split, index: int) -> int:
        """Return the number of images of the class at `index`."""
        return int(np.count_nonzero(self.labels[split] == index)) if split in self.labels else 0

    def read(
        self, split: Split, indices: Sequence[int], size: Size, on_image: OnImage | None, at_most: int | None = None
    ) -> Pixels:
        """Copy and resize the images of the classes at `indices`."""
        found = (np.flatnonzero(self.labels[split] == index) for index in indices)
        rows = [np.asarray(spread(positions.tolist(), at_most), np.int64) for positions in found]
        labels = np.repeat(np.arange(len(indices)), [len(found) for found in rows])
        images = np.ascontiguousarray(self.images[split][np.concatenate(rows)])
        if on_image is not None:
            on_image(len(images))
        return Pixels(resize(torch.from_numpy(images), size), torch.from_numpy(labels), len(images))


def torchvision_set(class_name: str) -> Any:
    """Return a data set class of torchvision, imported here because that takes a second."""
    import torchvision.datasets

    return getattr(torchvision.datasets, class_name)


def cifar(folder: str, files: dict[Split, tuple[str, ...]], names: str, label_bytes: int) -> Callable[[Path], Listing]:
    """Return a parser of CIFAR's binary version: per image the label bytes, the finest last, and 3 x 32 x 32 pixels."""

    def parse(root: Path) -> Listing:
        classes = _lines(root / folder / names)
        images: dict[Split, np.ndarray] = {}
        labels: dict[Split, np.ndarray] = {}
        for split, parts in files.items():
            data = np.concatenate([_records(root / folder / part, label_bytes + 3072) for part in parts])
            labels[split] = _checked_labels(data[:, label_bytes - 1], len(classes))
            images[split] = data[:, label_bytes:].reshape(-1, 3, 32, 32)
        return Listing(classes, ArrayReader(images, labels))

    return parse


def stl10(root: Path) -> Listing:
    """Parse STL-10: labels start at 1, pixels are stored by column."""
    folder = root / "stl10_binary"
    classes = _lines(folder / "class_names.txt")
    images: dict[Split, np.ndarray] = {}
    labels: dict[Split, np.ndarray] = {}
    for split in ("train", "test"):
        images[split] = _records(folder / f"{split}_X.bin", 3 * 96 * 96).reshape(-1, 3, 96, 96).swapaxes(2, 3)
        labels[split] = _checked_labels(_records(folder / f"{split}_y.bin", 1)[:, 0].astype(np.int64) - 1, len(classes))
        if len(labels[split]) != len(images[split]):
            raise ValueError(f"{len(images[split])} {split} images but {len(labels[split])} labels")
    return Listing(classes, ArrayReader(images, labels))


def caltech101(root: Path) -> Listing:
    """List Caltech-101, without its folder of random images; it has no test split."""
    return divide(list_classes(root / "caltech101" / "101_ObjectCategories", ignore=("BACKGROUND_Google",)))


def pets(root: Path) -> Listing:
    """List the breeds of Oxford-IIIT Pet; the class is the file name without its number."""
    folder = root / "oxford-iiit-pet"
    pairs: dict[Split, list[tuple[str, Path]]] = {}
    lists: dict[Split, str] = {"train": "trainval.txt", "test": "test.txt"}
    for split, file in lists.items():
        images = [line.split()[0] for line in _lines(folder / "annotations" / file)]
        pairs[split] = [(image.rsplit("_", 1)[0], folder / "images" / f"{image}.jpg") for image in images]
    return _by_class(pairs)


def files_of(class_name: str, splits: dict[Split, tuple[str, ...]]) -> Callable[[Path], Listing]:
    """Return a parser that lists the files with torchvision, whose loader returns the path unread."""

    def parse(root: Path) -> Listing:
        pairs: dict[Split, list[tuple[str, Path]]] = {}
        for split, parts in splits.items():
            sets = [torchvision_set(class_name)(root=str(root), split=part, loader=Path) for part in parts]
            pairs[split] = [
                (data.classes[label].rstrip("?"), path)
                for data in sets
                for path, label in map(data.__getitem__, range(len(data)))
            ]
        return _by_class(pairs)

    return parse


def _by_class(pairs: dict[Split, list[tuple[str, Path]]]) -> Listing:
    classes = tuple(sorted({name for found in pairs.values() for name, _ in found}))
    files: dict[Split, list[tuple[str, ...]]] = {}
    for split, found in pairs.items():
        of: dict[str, list[str]] = {name: [] for name in classes}
        for name, path in found:
            of[name].append(str(path))
        files[split] = [tuple(sorted(of[name])) for name in classes]
    return Listing(classes, FileReader(files))


def _records(path: Path, length: int) -> np.ndarray:
    data = np.fromfile(path, dtype=np.uint8)
    if data.size == 0 or data.size % length:
        raise ValueError(f"{path.name} has {data.size} bytes, not a multiple of {length}")
    return data.reshape(-1, length)


def _checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels from {labels.min()} to {labels.max()} for {classes} classes")
    return labels


def _lines(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip())


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
        url: URL of the archive.
        fetch: Downloads and unpacks into a directory.
        parse: Lists the classes and images in that directory.
    """

    url: str
    fetch: Callable[[Path, str], None]
    parse: Callable[[Path], Listing]


def open_named(name: str) -> tuple[Listing, Path]:
    """Open one of `NAMES`, and download it first if it is not in the cache.

    Returns:
        The listing and the directory that holds the data.

    Raises:
        DataError: If the download fails or the files in the cache are damaged.
    """
    recipe = _SETS[name]
    target = cache_dir() / "datasets" / name
    if not target.is_dir():
        _download(name, recipe, target)
    try:
        return recipe.parse(target), target
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise DataError(f"{target} is damaged ({error}); delete it to download {name} again") from error


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
            error.close()  # the error keeps the connection open
        if not target.is_dir():  # if it exists, another process was faster
            raise DataError(_no_download(name, recipe, target, error)) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _no_download(name: str, recipe: _Named, target: Path, error: Exception) -> str:
    return (
        f"cannot download {name} from {recipe.url} into {target}: {error}; check the network and the disk space, "
        f"or copy {target} from a machine that has it (MVP_EDGE_CACHE names another cache directory), "
        "or give a local folder of images in its place"
    )


@contextmanager
def _connection_timeout(seconds: float) -> Iterator[None]:
    """Set a timeout for a dead network, because torchvision's downloader has none."""
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
