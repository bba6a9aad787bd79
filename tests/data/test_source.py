"""Image folders and torchvision sets: layouts, splits, matching of names, and every way in which data can be wrong."""

from __future__ import annotations

import errno
import hashlib
import http.server
import io
import json
import os
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
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvp_edge.data import NAMES, DataSource, cache_dir, folder, formats, named, open_source
from mvp_edge.data.folder import FileReader, split_files
from mvp_edge.errors import DataError

SIZE = (8, 8)


def _fill(directory: Path, count: int, start: int = 0, suffix: str = ".png") -> Path:
    """Write images whose red value is their number."""
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(directory / f"image{i:03d}{suffix}")
    return directory


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with two splits."""
    root = tmp_path / "pictures"
    for start, name in enumerate(["apple", "sweet_pepper", "n02958343", "Oak Tree"]):
        _fill(root / "train" / name, 4, 10 * start)
        _fill(root / "test" / name, 2, 100 + 10 * start)
    return root


def _files(source: DataSource, split: folder.Split) -> list[list[str]]:
    assert isinstance(source.reader, FileReader)
    return [[path.name for path in paths] for paths in source.reader.files[split]]


def test_split_folders(tree: Path) -> None:
    source = open_source(str(tree))
    assert source.name == "pictures"
    assert source.classes == ("Oak Tree", "apple", "n02958343", "sweet_pepper")
    assert source.notes == ()
    calls: list[int] = []
    data = source.load(["sweet pepper", "N02958343", "oak-tree"], "train", SIZE, calls.append)
    assert data.classes == ("sweet pepper", "N02958343", "oak-tree")
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.images[:, 0, 0, 0].tolist() == [*range(10, 14), *range(20, 24), *range(30, 34)]
    assert sum(calls) == 12 == source.count(["sweet pepper", "N02958343", "oak-tree"], "train")
    everything = source.load(None, "test", (4, 6))
    assert everything.classes == source.classes
    assert everything.images.shape == (8, 3, 4, 6)
    assert source.count(None, "test") == 8


@given(st.permutations(["apple", "sweet_pepper", "n02958343", "Oak Tree"]), st.integers(1, 4))
@settings(deadline=None)
def test_labels_follow_the_request(shared_tree: Path, order: list[str], count: int) -> None:
    data = open_source(str(shared_tree)).load(order[:count], "test", SIZE)
    first = {"apple": 0, "sweet_pepper": 1, "n02958343": 2, "Oak Tree": 3}
    assert data.images[:, 0, 0, 0].tolist() == [first[name] for name in order[:count]]
    assert data.labels.tolist() == list(range(count))


@pytest.fixture(scope="module")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shared")
    for i, name in enumerate(["apple", "sweet_pepper", "n02958343", "Oak Tree"]):
        _fill(root / "train" / name, 1, i)
        _fill(root / "test" / name, 1, i)
    return root


@pytest.mark.parametrize("name", ["test", "Test", "val", "VALID"])
def test_names_of_the_test_split(tmp_path: Path, name: str) -> None:
    _fill(tmp_path / "Train" / "a", 1)
    _fill(tmp_path / name / "A", 1, 5)
    _fill(tmp_path / "extra" / "b", 1)
    source = open_source(str(tmp_path))
    assert source.classes == ("a",)
    assert source.load(["a"], "test", SIZE).images[0, 0, 0, 0] == 5


def test_test_comes_before_val(tmp_path: Path) -> None:
    for number, name in enumerate(["train", "val", "test"]):
        _fill(tmp_path / name / "a", 1, number)
    source = open_source(str(tmp_path))
    assert source.load(["a"], "test", SIZE).images[0, 0, 0, 0] == 2
    assert "val is not used" in source.notes[0]


@pytest.mark.parametrize("below", ["", "train"])
def test_one_folder_is_split_by_file_name(tmp_path: Path, below: str) -> None:
    _fill(tmp_path / below / "a", 11)
    _fill(tmp_path / below / "b", 2, 20)
    source = open_source(str(tmp_path))
    assert "no test split" in source.notes[0]
    train, test = _files(source, "train"), _files(source, "test")
    assert [len(names) for names in train + test] == [9, 1, 2, 1]
    by_hash = sorted((f"image{i:03d}.png" for i in range(11)), key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    assert test[0] == sorted(by_hash[:2])
    assert train[0] == sorted(by_hash[2:])


def test_test_only_can_be_tested(tmp_path: Path) -> None:
    _fill(tmp_path / "val" / "a", 3)
    source = open_source(str(tmp_path))
    assert "only be used for testing" in source.notes[0]
    assert len(source.load(["a"], "test", SIZE)) == 3
    with pytest.raises(DataError, match="no train images for a"):
        source.load(["a"], "train", SIZE)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    _fill(tmp_path / "train", 5)
    _fill(tmp_path / "bus", 5)
    assert open_source(str(tmp_path)).classes == ("bus", "train")


@given(st.sets(st.text("abcdef0123456789_", min_size=1, max_size=8), max_size=40), st.randoms())
@settings(deadline=None)
def test_split_covers_is_disjoint_and_ignores_the_order(names: set[str], random: object) -> None:
    files = [Path("x") / name for name in names]
    train, test = split_files(files)
    assert sorted([*train, *test]) == sorted(files)
    assert not set(train) & set(test)
    assert len(test) == (0 if len(files) < 2 else max(1, len(files) // 5))
    assert len(train) >= min(1, len(files))
    random.shuffle(files)  # type: ignore[attr-defined]
    assert split_files([Path("y") / path.name for path in files]) == tuple(
        tuple(Path("y") / path.name for path in half) for half in (train, test)
    )


def test_other_files_are_ignored(tree: Path) -> None:
    apple = tree / "train" / "apple"
    (apple / ".hidden.png").write_bytes(b"")
    (apple / "notes.txt").write_text("x")
    (apple / "folder.png").mkdir()
    _fill(tree / "train" / ".cache", 1)
    _fill(tree / "train" / "__MACOSX", 1)
    Image.new("RGB", (8, 8), (9, 0, 0)).save(apple / "UPPER.JPG")
    source = open_source(str(tree))
    assert len(source.classes) == 4
    assert _files(source, "train")[1] == ["UPPER.JPG", *(f"image{i:03d}.png" for i in range(4))]


def test_home_is_expanded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree.parent))
    assert open_source("~/pictures").name == "pictures"


@pytest.mark.parametrize("spec", ["", "cifar1000", "/no/such/folder"])
def test_neither_folder_nor_name(spec: str) -> None:
    with pytest.raises(DataError, match="neither a directory nor a known data set") as caught:
        open_source(spec)
    assert all(name in str(caught.value) for name in NAMES)
    assert "DIR/train/CLASS" in str(caught.value)
    assert ("did you mean cifar100?" in str(caught.value)) == (spec == "cifar1000")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        folder.list_folder(tmp_path / "gone")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = _fill(tmp_path / "a", 1) / "image000.png"
    with pytest.raises(DataError, match="is a file, not a directory; give a directory in the layout"):
        open_source(str(path))


def test_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class folder; the layout must be"):
        open_source(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train has no class folder"):
        open_source(str(tmp_path))
    (tmp_path / "train" / "apple").mkdir()
    with pytest.raises(DataError, match=r"no image in .*\.jpeg"):
        open_source(str(tmp_path))


def test_images_without_class_folders(tmp_path: Path) -> None:
    _fill(tmp_path, 3)
    with pytest.raises(DataError, match="3 images but no class folder"):
        open_source(str(tmp_path))


def test_two_folders_for_one_class(tree: Path) -> None:
    _fill(tree / "train" / "Sweet-Pepper", 1)
    _fill(tree / "train" / "APPLE", 1)
    with pytest.raises(DataError, match="APPLE = apple; Sweet-Pepper = sweet_pepper; merge or rename"):
        open_source(str(tree))


def test_two_train_folders(tree: Path) -> None:
    _fill(tree / "TRAIN" / "apple", 1)
    if len(list(tree.iterdir())) == 2:
        pytest.skip("the file system ignores case")
    with pytest.raises(DataError, match="TRAIN and train; keep one"):
        open_source(str(tree))


def test_folder_that_cannot_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(folder.os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot list .*Permission denied.*check its permissions"):
        open_source(str(tree))


def test_all_problems_of_a_request_at_once(tree: Path) -> None:
    (tree / "train" / "empty").mkdir()
    source = open_source(str(tree))
    with pytest.raises(DataError) as caught:
        source.load(["aple", "oak tre", "apple", "Apple", "empty"], "train", SIZE)
    message = str(caught.value)
    assert "unknown class 'aple': write the name of a class folder, nearest are apple, " in message
    assert "unknown class 'oak tre': write the name of a class folder, nearest are Oak Tree, " in message
    assert all(line.count(",") == 3 for line in message.splitlines() if "nearest" in line)
    assert "given more than once: Apple, apple" in message
    assert "no train images for empty; add images to" in message
    with pytest.raises(DataError, match="no class was asked for"):
        source.load([], "train", SIZE)


def test_class_without_images_in_one_split(tmp_path: Path) -> None:
    _fill(tmp_path / "a", 1)
    _fill(tmp_path / "b", 3)
    source = open_source(str(tmp_path))
    assert len(source.load(["a", "b"], "train", SIZE)) == 3
    with pytest.raises(DataError, match="no test images for a;"):
        source.load(["a", "b"], "test", SIZE)


def test_words_for_folders_with_wordnet_ids(tmp_path: Path) -> None:
    _fill(tmp_path / "n02958343", 3)
    _fill(tmp_path / "n02084071", 3)
    with pytest.raises(DataError, match="the folders have WordNet ids: write the ids"):
        open_source(str(tmp_path)).load(["car"], "train", SIZE)


def test_wrong_arguments_of_the_programmer(tree: Path) -> None:
    source = open_source(str(tree))
    with pytest.raises(ValueError, match="split must be"):
        source.load(["apple"], "val", SIZE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size must be"):
        source.load(["apple"], "test", (0, 8))


def test_a_tenth_may_be_unreadable(tmp_path: Path) -> None:
    _fill(tmp_path / "train" / "a", 18)
    _fill(tmp_path / "test" / "a", 1)
    bad = [tmp_path / "train" / "a" / f"image{i:03d}.png" for i in (3, 7)]
    for path in bad:
        path.rename(path.with_suffix(".bak"))
        path.write_text("text")
    _fill(tmp_path / "train" / "a", 2, 18)
    data = open_source(str(tmp_path)).load(["a"], "train", SIZE)
    assert data.skipped == tuple(map(str, bad))
    assert len(data) == 18
    (tmp_path / "train" / "a" / "image019.png").unlink()
    with pytest.raises(DataError, match=r"2 of 19 images cannot be read, at most 10%") as caught:
        open_source(str(tmp_path)).load(["a"], "train", SIZE)
    assert "image007.png (no image of a known format)" in str(caught.value)


def test_at_most_five_unreadable_files_are_listed(tmp_path: Path) -> None:
    for i in range(9):
        (_fill(tmp_path / "test" / "a", 1) / f"bad{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match="9 of 10 images") as caught:
        open_source(str(tmp_path)).load(["a"], "test", SIZE)
    assert str(caught.value).count("bad") == 5 == str(caught.value).count("\n")


def test_class_whose_every_image_is_unreadable(tmp_path: Path) -> None:
    _fill(tmp_path / "test" / "a", 30)
    (_fill(tmp_path / "test" / "b", 0) / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image of b in .* can be read(.|\n)*bad\.png"):
        open_source(str(tmp_path)).load(["a", "b"], "test", SIZE)


# --- data sets by name ---------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in a directory without folders that are called like a data set."""
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


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


def _serve(
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


def _record(labels: list[int], value: int) -> bytes:
    planes = [bytes([value + plane]) * 1024 for plane in range(3)]
    return bytes(labels) + b"".join(planes)


CIFAR100 = {
    "cifar-100-binary/train.bin": _record([9, 1], 10) + _record([9, 0], 20) + _record([9, 1], 30),
    "cifar-100-binary/test.bin": _record([9, 0], 40) + _record([9, 1], 50),
    "cifar-100-binary/fine_label_names.txt": b"apple\naquarium_fish\n\n",
    "cifar-100-binary/coarse_label_names.txt": b"fruit\n",
}
CIFAR10 = {
    **{f"cifar-10-batches-bin/data_batch_{i}.bin": _record([i % 2], i) for i in range(1, 6)},
    "cifar-10-batches-bin/test_batch.bin": _record([1], 50) + _record([0], 60),
    "cifar-10-batches-bin/batches.meta.txt": b"airplane\nautomobile\n",
}


def test_cifar100(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(server, monkeypatch, "cifar100", CIFAR100)
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


def test_cifar10(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(server, monkeypatch, "cifar10", CIFAR10)
    data = open_source("cifar10").load(["airplane", "automobile"], "train", (32, 32))
    assert data.images[:, 0, 0, 0].tolist() == [2, 4, 1, 3, 5]
    assert open_source("cifar10").load(["automobile"], "test", (32, 32)).images[0, 2, 0, 0] == 52


def test_stl10(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((3, 96, 96), dtype=np.uint8)
    image[:, 5, :] = 200  # column 5, as the pixels lie column by column
    files = {
        "stl10_binary/class_names.txt": b"airplane\nbird\n",
        "stl10_binary/train_X.bin": image.tobytes() * 2,
        "stl10_binary/train_y.bin": bytes([2, 1]),
        "stl10_binary/test_X.bin": image.tobytes(),
        "stl10_binary/test_y.bin": bytes([1]),
    }
    _serve(server, monkeypatch, "stl10", files)
    data = open_source("stl10").load(["bird"], "train", (96, 96))
    assert data.images.shape == (1, 3, 96, 96)
    assert data.images[0, 0, 0].nonzero().tolist() == [[5]]
    (cache / "datasets" / "stl10" / "stl10_binary" / "test_y.bin").write_bytes(bytes([1, 1]))
    with pytest.raises(DataError, match="1 test images but 2 labels"):
        open_source("stl10")


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("train.bin", b"abc", "train.bin has 3 bytes, not a multiple of 3074"),
        ("train.bin", b"", "0 bytes"),
        ("test.bin", _record([0, 7], 1), "labels from 7 to 7 for 2 classes"),
        ("fine_label_names.txt", b"\xff\xfe", "can't decode"),
        ("fine_label_names.txt", None, "No such file"),
    ],
)
def test_damaged_cache(cache: Path, file: str, content: bytes | None, found: str) -> None:
    for name, data in CIFAR100.items():
        path = cache / "datasets" / "cifar100" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name != file:
            path.write_bytes(data)
        elif content is not None:
            path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged .* delete it") as caught:
        open_source("cifar100")
    assert found in str(caught.value)


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
    url = _serve(server, monkeypatch, "cifar100", CIFAR100, md5="0" * 32)
    assert "not found or corrupted" in _check_no_download(cache, "cifar100", url)


def test_archive_that_is_none(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, root = server
    (root / "a.tar.gz").write_bytes(b"hello")
    fetch = named._archive(hashlib.md5(b"hello").hexdigest())
    monkeypatch.setitem(named._SETS, "cifar10", replace(named._SETS["cifar10"], url=f"{url}/a.tar.gz", fetch=fetch))
    _check_no_download(cache, "cifar10", f"{url}/a.tar.gz")


def test_missing_on_the_server(cache: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url = _serve(server, monkeypatch, "cifar100", CIFAR100)
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
        for base in (root, cache / "datasets" / "cifar100"):
            for name, data in CIFAR100.items():
                (base / name).parent.mkdir(parents=True, exist_ok=True)
                (base / name).write_bytes(data)

    monkeypatch.setitem(named._SETS, "cifar100", replace(named._SETS["cifar100"], fetch=fetch))
    assert open_source("cifar100").classes == ("apple", "aquarium_fish")
    assert [path.name for path in (cache / "datasets").iterdir()] == ["cifar100"]


def test_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_text("a file where the directory should be")
    with pytest.raises(DataError, match=r"cannot download cifar10 .*MVP_EDGE_CACHE"):
        open_source("cifar10")


def test_cache_dir(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == cache
    monkeypatch.delenv("MVP_EDGE_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "mvp-edge"


def test_caltech101(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*, root: str, download: bool) -> None:
        folder = Path(root) / "caltech101" / "101_ObjectCategories"
        for name in ("BACKGROUND_Google", "ant", "yin_yang"):
            _fill(folder / name, 5, suffix=".jpg")
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
    _fill(root / "images", 4, suffix=".jpg")
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
        _fill(root / "images" / name, 3, 10 * start, suffix=".jpg")
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


def test_flowers102_needs_scipy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="flowers102 needs the package scipy: type `pip install scipy`"):
        open_source("flowers102")


def test_flowers102(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "datasets" / "flowers102").mkdir(parents=True)
    files = {split: _fill(cache / split, 2, 10 * i) for i, split in enumerate(["train", "val", "test"])}

    class Fake(list):
        classes = ("rose", "pink-yellow dahlia?")

        def __init__(self, root: str, split: str, loader: type) -> None:
            super().__init__((loader(path), label) for label, path in enumerate(sorted(files[split].iterdir())))

    monkeypatch.setattr(named.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torchvision.datasets, "Flowers102", Fake)
    data = open_source("flowers102").load(["pink yellow dahlia", "rose"], "train", SIZE)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert [round(int(red), -1) for red in data.images[:, 0, 0, 0]] == [0, 10, 0, 10]
    assert open_source("flowers102").count(["rose"], "test") == 1


def test_nothing_unpickles() -> None:
    for module in (formats, named, folder):
        assert "pickle" not in vars(module)


# --- real images ---------------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    """The directory with real data: a missing variable skips, missing data fail."""
    given = os.environ.get("MVP_EDGE_DATA")
    if given is None:
        pytest.skip("MVP_EDGE_DATA is not set")
    return Path(given)


def test_real_cifar100(real: Path) -> None:
    source = open_source(str(real / "cifar100"))
    assert len(source.classes) == 100
    assert source.notes == ()
    wanted = ["sweet pepper", "apple", "oak_tree"]
    train, test = source.load(wanted, "train", (32, 32)), source.load(wanted, "test", (32, 32))
    assert (len(train), len(test), train.skipped, test.skipped) == (1500, 300, (), ())
    assert train.labels.bincount().tolist() == [500] * 3
    assert isinstance(source.reader, FileReader)
    with Image.open(source.reader.files["test"][source.classes.index("apple")][7]) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), test.images[107].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("name", "classes"), [("caltech101", 100), ("flowers102", 89)])
def test_real_photographs(real: Path, name: str, classes: int) -> None:
    source = open_source(str(real / name))
    assert len(source.classes) == classes
    data = source.load(source.classes[:5], "test", (32, 32))
    assert data.skipped == ()
    assert set(data.labels.tolist()) == set(range(5))
    assert data.images.float().std() > 20
