"""Opening data by directory or name, matching of names, and what a request can get wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvp_edge.core.errors import DataError
from mvp_edge.data import NAMES, open_source
from mvp_edge.data.listing import FileReader

from .conftest import SIZE, fill


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
        fill(root / "train" / name, 1, i)
        fill(root / "test" / name, 1, i)
    return root


def test_home_is_expanded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree.parent))
    assert open_source("~/pictures").name == "pictures"


def test_nobody_s_home() -> None:
    with pytest.raises(DataError, match="~nosuchuser.*write the whole path"):
        open_source("~nosuchuser/photos")


@pytest.mark.parametrize("spec", ["", "cifar1000", "/no/such/folder"])
def test_neither_folder_nor_name(spec: str) -> None:
    with pytest.raises(DataError, match="known data set") as caught:
        open_source(spec)
    assert all(name in str(caught.value) for name in NAMES)
    assert "DIR/{train,test}/CLASS" in str(caught.value)
    assert ("did you mean cifar100?" in str(caught.value)) == (spec == "cifar1000")


def test_all_problems_of_a_request_at_once(tree: Path) -> None:
    (tree / "train" / "empty").mkdir()
    source = open_source(str(tree))
    with pytest.raises(DataError) as caught:
        source.load(["aple", "oak tre", "apple", "Apple", "empty"], "train", SIZE)
    message = str(caught.value)
    assert "unknown class 'aple'; write the name of a class folder, such as apple, " in message
    assert "unknown class 'oak tre'; write the name of a class folder, such as Oak Tree, " in message
    assert all(line.count(",") == 3 for line in message.splitlines() if "nearest" in line)
    assert "given more than once: Apple, apple" in message
    assert "no train images for empty; add some to" in message
    with pytest.raises(DataError, match="at least one class"):
        source.load([], "train", SIZE)


def test_class_without_images_in_one_split(tmp_path: Path) -> None:
    fill(tmp_path / "a", 1)
    fill(tmp_path / "b", 3)
    source = open_source(str(tmp_path))
    assert len(source.load(["a", "b"], "train", SIZE)) == 3
    with pytest.raises(DataError, match="no test images for a;"):
        source.load(["a", "b"], "test", SIZE)


def test_words_for_folders_with_wordnet_ids(tmp_path: Path) -> None:
    fill(tmp_path / "n02958343", 3)
    fill(tmp_path / "n02084071", 3)
    with pytest.raises(DataError, match="WordNet ids"):
        open_source(str(tmp_path)).load(["car"], "train", SIZE)


def test_wrong_arguments_of_the_programmer(tree: Path) -> None:
    source = open_source(str(tree))
    with pytest.raises(ValueError, match="split must be"):
        source.load(["apple"], cast("Any", "dev"), SIZE)
    with pytest.raises(ValueError, match="size must be"):
        source.load(["apple"], "test", (0, 8))


def test_a_tenth_may_be_unreadable(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 18)
    fill(tmp_path / "test" / "a", 1)
    bad = [tmp_path / "train" / "a" / f"image{i:03d}.png" for i in (3, 7)]
    for path in bad:
        path.write_text("text")
    fill(tmp_path / "train" / "a", 2, 18)
    data = open_source(str(tmp_path)).load(["a"], "train", SIZE)
    assert data.skipped == tuple(map(str, bad))
    assert len(data) == 18
    (tmp_path / "train" / "a" / "image019.png").unlink()
    with pytest.raises(DataError, match=r"2 of 19 images cannot be read.* 10%") as caught:
        open_source(str(tmp_path)).load(["a"], "train", SIZE)
    assert "image007.png (not an image of a known format)" in str(caught.value)


def test_at_most_five_unreadable_files_are_listed(tmp_path: Path) -> None:
    for i in range(9):
        (fill(tmp_path / "test" / "a", 1) / f"bad{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match="9 of 10 images") as caught:
        open_source(str(tmp_path)).load(["a"], "test", SIZE)
    assert str(caught.value).count("bad") == 5 == str(caught.value).count("\n")


def test_class_whose_every_image_is_unreadable(tmp_path: Path) -> None:
    fill(tmp_path / "test" / "a", 30)
    (fill(tmp_path / "test" / "b", 0) / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image of b in .* can be read(.|\n)*bad\.png"):
        open_source(str(tmp_path)).load(["a", "b"], "test", SIZE)


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
    assert isinstance(source.listing.reader, FileReader)
    with Image.open(source.listing.reader.files["test"][source.classes.index("apple")][7]) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), test.images[107].permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("name", "classes"), [("caltech101", 100), ("flowers102", 89)])
def test_real_photographs(real: Path, name: str, classes: int) -> None:
    source = open_source(str(real / name))
    assert len(source.classes) == classes
    data = source.load(source.classes[:5], "test", (32, 32))
    assert data.skipped == ()
    assert set(data.labels.tolist()) == set(range(5))
    assert data.images.float().std() > 20


def test_the_checksum_of_images_that_are_not_all_in_memory(shared_tree: Path) -> None:
    source = open_source(str(shared_tree))
    for names in (source.classes, source.classes[::-1], source.classes[:1]):
        assert source.sha256(names, "train", (8, 8)) == source.load(names, "train", (8, 8)).sha256


def test_at_most_so_many_of_each_class_are_read(tree: Path) -> None:
    source = open_source(str(tree))
    every = source.load(["apple", "sweet pepper"], "train", SIZE)
    some = source.load(["apple", "sweet pepper"], "train", SIZE, at_most=2)
    assert np.bincount(some.labels).tolist() == [2, 2]
    assert set(some.files) < set(every.files) and sorted(some.files) == list(some.files)
    assert source.load(["apple"], "train", SIZE, at_most=1000).files == source.load(["apple"], "train", SIZE).files
