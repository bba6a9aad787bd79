"""Data sets by name: downloads, the cache, and what goes wrong with either."""

from __future__ import annotations

import hashlib
import http.server
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision

from mvp_edge.core.errors import DataError
from mvp_edge.data import named, open_source

from .conftest import CIFAR100, put, record


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine and the directory that it serves."""
    root = tmp_path / "www"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root))) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", root
        web.shutdown()
        thread.join()


def serve(
    server: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    files: dict[str, bytes],
    md5: str | None = None,
) -> str:
    """Put an archive on the server and let the data set `name` come from there."""
    url, root = server
    archive = root / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    digest = md5 or hashlib.md5(archive.read_bytes()).hexdigest()
    recipe = replace(named._SETS[name], url=f"{url}/{archive.name}", fetch=named._archive(digest))
    monkeypatch.setitem(named._SETS, name, recipe)
    return recipe.url


def test_cifar100(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    serve(server, monkeypatch, "cifar100", CIFAR100)
    timeout = socket.getdefaulttimeout()
    source = open_source("CIFAR-100")
    assert (source.name, source.classes, source.location) == (
        "cifar100",
        ("apple", "aquarium_fish"),
        cache / "datasets" / "cifar100",
    )
    calls: list[int] = []
    data = source.load(["aquarium fish", "apple"], "train", (32, 32), calls.append)
    assert data.labels.tolist() == [0, 0, 1]
    assert data.images[:, :, 5, 5].tolist() == [[10, 11, 12], [30, 31, 32], [20, 21, 22]]
    assert calls == [3]
    assert data.labels.dtype == torch.int64
    assert source.load(None, "test", (16, 16)).images.shape == (2, 3, 16, 16)
    assert source.load(None, "test", (16, 16)).images[0].unique().tolist() == [40, 41, 42]
    assert socket.getdefaulttimeout() == timeout
    left = [path.name for path in (cache / "datasets").rglob("*")]
    assert not [name for name in left if name.endswith(".gz") or name.startswith(".")]
    with pytest.raises(DataError, match="nearest are apple, aquarium_fish"):
        source.load(["aple"], "train", (32, 32))

    monkeypatch.setitem(named._SETS, "cifar100", replace(named._SETS["cifar100"], fetch=None))
    assert open_source("cifar100").classes == source.classes


def _check_no_download(cache: Path, name: str, url: str) -> str:
    with pytest.raises(DataError, match=f"cannot download {name}") as caught:
        open_source(name)
    message = str(caught.value)
    assert url in message
    assert str(cache) in message
    assert "--data DIR" in message
    assert not any((cache / "datasets").rglob("*")), "something half-written was left"
    return message


def test_wrong_checksum(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url = serve(server, monkeypatch, "cifar100", CIFAR100, md5="0" * 32)
    assert "not found or corrupted" in _check_no_download(cache, "cifar100", url)


def test_archive_that_is_none(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, root = server
    (root / "a.tar.gz").write_bytes(b"hello")
    fetch = named._archive(hashlib.md5(b"hello").hexdigest())
    monkeypatch.setitem(named._SETS, "cifar10", replace(named._SETS["cifar10"], url=f"{url}/a.tar.gz", fetch=fetch))
    _check_no_download(cache, "cifar10", f"{url}/a.tar.gz")


def test_missing_on_the_server(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url = serve(server, monkeypatch, "cifar100", CIFAR100)
    (server[1] / "cifar100.tar.gz").unlink()
    assert "404" in _check_no_download(cache, "cifar100", url)


@pytest.mark.parametrize(
    ("name", "class_name"), [("caltech101", "Caltech101"), ("oxfordiiitpet", "OxfordIIITPet"), ("food101", "Food101")]
)
def test_offline(cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, class_name: str) -> None:
    def unreachable(*, root: str, download: bool) -> None:
        assert download
        (Path(root) / "half.zip").write_bytes(b"half")
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets, class_name, unreachable)
    assert "Name or service" in _check_no_download(cache, name, named._SETS[name].url)


def test_interrupted_download_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(root: Path, url: str) -> None:
        (root / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setitem(named._SETS, "stl10", replace(named._SETS["stl10"], fetch=interrupted))
    with pytest.raises(KeyboardInterrupt):
        open_source("stl10")
    assert not any((cache / "datasets").iterdir())


def test_another_process_was_faster(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(root: Path, url: str) -> None:
        put(cache, root.name, CIFAR100)
        put(cache, "cifar100", CIFAR100)

    monkeypatch.setitem(named._SETS, "cifar100", replace(named._SETS["cifar100"], fetch=fetch))
    assert open_source("cifar100").classes == ("apple", "aquarium_fish")
    assert [path.name for path in (cache / "datasets").iterdir()] == ["cifar100"]


def test_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_text("a file where the directory should be")
    with pytest.raises(DataError, match=r"cannot download cifar10 .*MVP_EDGE_CACHE"):
        open_source("cifar10")


def test_flowers102_needs_scipy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="flowers102 needs the package scipy: type `pip install scipy`"):
        open_source("flowers102")


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("train.bin", b"abc", "train.bin has 3 bytes, not a multiple of 3074"),
        ("train.bin", b"", "0 bytes"),
        ("test.bin", record([0, 7], 1), "labels from 7 to 7 for 2 classes"),
        ("fine_label_names.txt", b"\xff\xfe", "can't decode"),
        ("fine_label_names.txt", None, "No such file"),
    ],
)
def test_damaged_cache(cache: Path, file: str, content: bytes | None, found: str) -> None:
    path = put(cache, "cifar100", CIFAR100) / "cifar-100-binary" / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged .* delete it") as caught:
        open_source("cifar100")
    assert found in str(caught.value)
