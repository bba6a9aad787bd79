"""Image folders: layouts, splits, and every way in which a directory can be wrong."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvp_edge.core.errors import DataError
from mvp_edge.data import DataSource, folder, open_source
from mvp_edge.data.folder import FileReader, split_files

from .conftest import SIZE, fill


def _files(source: DataSource, split: folder.Split) -> list[list[str]]:
    assert isinstance(source.reader, FileReader)
    return [[path.name for path in paths] for paths in source.reader.files[split]]


@pytest.mark.parametrize("name", ["test", "Test", "val", "VALID"])
def test_names_of_the_test_split(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "Train" / "a", 1)
    fill(tmp_path / name / "A", 1, 5)
    fill(tmp_path / "extra" / "b", 1)
    source = open_source(str(tmp_path))
    assert source.classes == ("a",)
    assert source.load(["a"], "test", SIZE).images[0, 0, 0, 0] == 5


def test_test_comes_before_val(tmp_path: Path) -> None:
    for number, name in enumerate(["train", "val", "test"]):
        fill(tmp_path / name / "a", 1, number)
    source = open_source(str(tmp_path))
    assert source.load(["a"], "test", SIZE).images[0, 0, 0, 0] == 2
    assert "val is not used" in source.notes[0]


@pytest.mark.parametrize("below", ["", "train"])
def test_one_folder_is_split_by_file_name(tmp_path: Path, below: str) -> None:
    fill(tmp_path / below / "a", 11)
    fill(tmp_path / below / "b", 2, 20)
    source = open_source(str(tmp_path))
    assert "no test split" in source.notes[0]
    train, test = _files(source, "train"), _files(source, "test")
    assert [len(names) for names in train + test] == [9, 1, 2, 1]
    by_hash = sorted((f"image{i:03d}.png" for i in range(11)), key=lambda n: hashlib.sha256(n.encode()).hexdigest())
    assert test[0] == sorted(by_hash[:2])
    assert train[0] == sorted(by_hash[2:])


def test_test_only_can_be_tested(tmp_path: Path) -> None:
    fill(tmp_path / "val" / "a", 3)
    source = open_source(str(tmp_path))
    assert "for testing" in source.notes[0]
    assert len(source.load(["a"], "test", SIZE)) == 3
    with pytest.raises(DataError, match="no train images for a"):
        source.load(["a"], "train", SIZE)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path / "train", 5)
    fill(tmp_path / "bus", 5)
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
    fill(tree / "train" / ".cache", 1)
    fill(tree / "train" / "__MACOSX", 1)
    Image.new("RGB", (8, 8), (9, 0, 0)).save(apple / "UPPER.JPG")
    source = open_source(str(tree))
    assert len(source.classes) == 4
    assert _files(source, "train")[1] == ["UPPER.JPG", *(f"image{i:03d}.png" for i in range(4))]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        folder.list_folder(tmp_path / "gone")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = fill(tmp_path / "a", 1) / "image000.png"
    with pytest.raises(DataError, match="is a file; give a directory"):
        open_source(str(path))


def test_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no class folder; the layout must be"):
        open_source(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train has no class folder"):
        open_source(str(tmp_path))
    (tmp_path / "train" / "apple").mkdir()
    with pytest.raises(DataError, match=r"no images.*\.jpeg"):
        open_source(str(tmp_path))


def test_images_without_class_folders(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with pytest.raises(DataError, match="3 images but no class folder"):
        open_source(str(tmp_path))


def test_two_folders_for_one_class(tree: Path) -> None:
    fill(tree / "train" / "Sweet-Pepper", 1)
    fill(tree / "train" / "APPLE", 1)
    with pytest.raises(DataError, match="APPLE = apple; Sweet-Pepper = sweet_pepper; merge or rename"):
        open_source(str(tree))


def test_two_train_folders(tree: Path) -> None:
    fill(tree / "TRAIN" / "apple", 1)
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
