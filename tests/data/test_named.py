"""Public data sets: what their files mean, downloads, the cache, and what goes wrong."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

from mvp_edge.core.errors import DataError
from mvp_edge.data import folder, named, open_source

from .conftest import CIFAR100, SIZE, fill, put, record

CIFAR10 = {
    **{f"cifar-10-batches-bin/data_batch_{i}.bin": record([i % 2], i) for i in range(1, 6)},
    "cifar-10-batches-bin/test_batch.bin": record([1], 50) + record([0], 60),
    "cifar-10-batches-bin/batches.meta.txt": b"airplane\nautomobile\n",
}


def test_cifar10(cache: Path) -> None:
    put(cache, "cifar10", CIFAR10)
    data = open_source("cifar10").load(["airplane", "automobile"], "train", (32, 32))
    assert data.images[:, 0, 0, 0].tolist() == [2, 4, 1, 3, 5]
    assert open_source("cifar10").load(["automobile"], "test", (32, 32)).images[0, 2, 0, 0] == 52


def test_stl10(cache: Path) -> None:
    image = np.zeros((3, 96, 96), dtype=np.uint8)
    image[:, 5, :] = 200  # column 5, as the pixels lie column by column
    files = {
        "stl10_binary/class_names.txt": b"airplane\nbird\n",
        "stl10_binary/train_X.bin": image.tobytes() * 2,
        "stl10_binary/train_y.bin": bytes([2, 1]),
        "stl10_binary/test_X.bin": image.tobytes(),
        "stl10_binary/test_y.bin": bytes([1]),
    }
    root = put(cache, "stl10", files)
    data = open_source("stl10").load(["bird"], "train", (96, 96))
    assert data.images.shape == (1, 3, 96, 96)
    assert data.images[0, 0, 0].nonzero().tolist() == [[5]]
    (root / "stl10_binary" / "test_y.bin").write_bytes(bytes([1, 1]))
    with pytest.raises(DataError, match="1 test images but 2 labels"):
        open_source("stl10")


def test_caltech101(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*, root: str, download: bool) -> None:
        folder = Path(root) / "caltech101" / "101_ObjectCategories"
        for name in ("BACKGROUND_Google", "ant", "yin_yang"):
            fill(folder / name, 5, suffix=".jpg")
        (Path(root) / "caltech101" / "left-over.zip").write_bytes(b"")

    monkeypatch.setattr(torchvision.datasets, "Caltech101", fetched)
    source = open_source("caltech101")
    assert source.classes == ("ant", "yin_yang")
    assert not list(cache.rglob("*.zip"))
    assert "no test split" in source.notes[0]
    assert [len(source.load(None, split, SIZE)) for split in ("train", "test")] == [8, 2]


def test_oxford_pets(cache: Path) -> None:
    root = cache / "datasets" / "oxfordiiitpet" / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    fill(root / "images", 4, suffix=".jpg")
    names = ["great_pyrenees_1", "Bengal_7", "great_pyrenees_2", "Bengal_8"]
    for i, name in enumerate(names):
        (root / "images" / f"image{i:03d}.jpg").rename(root / "images" / f"{name}.jpg")
    (root / "annotations" / "trainval.txt").write_text("".join(f"{name} 1 1 1\n" for name in names[:3]))
    (root / "annotations" / "test.txt").write_text(f"{names[3]} 2 1 1\n")
    source = open_source("oxford-iiit-pet")
    assert source.classes == ("Bengal", "great_pyrenees")
    assert source.load(["great pyrenees", "bengal"], "train", SIZE).labels.tolist() == [0, 0, 1]
    assert source.count(["bengal"], "test") == 1


def test_food101(cache: Path) -> None:
    root = cache / "datasets" / "food101" / "food-101"
    for start, name in enumerate(["apple_pie", "waffles"]):
        fill(root / "images" / name, 3, 10 * start, suffix=".jpg")
    (root / "meta").mkdir()
    lists = {
        "train": {"apple_pie": ["image000", "image001"], "waffles": ["image010"]},
        "test": {"apple_pie": ["image002"], "waffles": ["image011", "image012"]},
    }
    for split, content in lists.items():
        paths = {name: [f"{name}/{image}" for image in images] for name, images in content.items()}
        (root / "meta" / f"{split}.json").write_text(json.dumps(paths))
    source = open_source("food101")
    assert source.load(["waffles", "apple pie"], "train", SIZE).labels.tolist() == [0, 1, 1]
    assert source.load(["waffles", "apple pie"], "test", SIZE).labels.tolist() == [0, 0, 1]


def test_flowers102(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "datasets" / "flowers102").mkdir(parents=True)
    files = {split: fill(cache / split, 2, 10 * i) for i, split in enumerate(["train", "val", "test"])}

    class Fake(list):
        classes = ("rose", "pink-yellow dahlia?")

        def __init__(self, root: str, split: str, loader: type) -> None:
            super().__init__((loader(path), label) for label, path in enumerate(sorted(files[split].iterdir())))

    monkeypatch.setattr(torchvision.datasets, "Flowers102", Fake)
    data = open_source("flowers102").load(["pink yellow dahlia", "rose"], "train", SIZE)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert [round(int(red), -1) for red in data.images[:, 0, 0, 0]] == [0, 10, 0, 10]
    assert open_source("flowers102").count(["rose"], "test") == 1


def test_nothing_unpickles() -> None:
    for module in (named, folder):
        assert "pickle" not in vars(module)


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
    with pytest.raises(DataError, match="apple, aquarium_fish"):
        source.load(["aple"], "train", (32, 32))

    monkeypatch.setitem(named._SETS, "cifar100", replace(named._SETS["cifar100"], fetch=None))
    assert open_source("cifar100").classes == source.classes


def _check_no_download(cache: Path, name: str, url: str) -> str:
    with pytest.raises(DataError, match=f"cannot download {name}") as caught:
        open_source(name)
    message = str(caught.value)
    assert url in message
    assert str(cache) in message
    assert "a local folder of images" in message
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
    with pytest.raises(DataError, match="delete it") as caught:
        open_source("cifar100")
    assert found in str(caught.value)
