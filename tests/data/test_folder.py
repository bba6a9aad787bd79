"""Image folders: layouts, splits, and every way in which a directory can be wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import unicodedata
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvp_edge.core.errors import DataError
from mvp_edge.data import DataSource, folder, open_source
from mvp_edge.data.listing import FileReader, Split, divide, grouping, split_files
from mvp_edge.data.table import MISSING, MISSPELT

from .conftest import SIZE, fill


def _files(source: DataSource, split: Split) -> list[list[str]]:
    reader = source.listing.reader
    assert isinstance(reader, FileReader)
    return [[Path(path).name for path in paths] for paths in reader.files[split]]


@pytest.mark.parametrize("train", ["Train", "TRAINING"])
@pytest.mark.parametrize("name", ["test", "Testing", "val", "VALID", "validation", "Eval", "dev"])
def test_names_of_the_test_split(tmp_path: Path, train: str, name: str) -> None:
    fill(tmp_path / train / "a", 1)
    fill(tmp_path / name / "A", 1, 5)
    fill(tmp_path / "extra" / "b", 1)
    source = open_source(str(tmp_path))
    assert source.classes == ("a",)
    assert source.load(["a"], "test", SIZE).images[0, 0, 0, 0] == 5
    assert f"1 not used: in extra, which is not one of the splits {train}, {name}" in source.notes[-1]


@pytest.mark.parametrize("val", ["val", "Validation", "dev"])
def test_validation_beside_test_is_a_split_of_its_own(tmp_path: Path, val: str) -> None:
    for number, name in enumerate(["train", val, "testing"]):
        fill(tmp_path / name / "a", 1, number)
    source = open_source(str(tmp_path))
    for number, split in enumerate(("train", "val", "test")):
        assert source.load(["a"], split, SIZE).images[0, 0, 0, 0] == number
    assert source.notes == ()


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    for name in ("train", "val", "validation"):
        fill(tmp_path / name / "a", 1)
    with pytest.raises(DataError, match="val and validation"):
        open_source(str(tmp_path))


def test_pictures_in_folders_of_a_class_belong_to_it(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "apple", 2)
    fill(tmp_path / "train" / "apple" / "monday", 3, 2)
    fill(tmp_path / "train" / "apple" / "tuesday" / "evening", 4, 5)
    fill(tmp_path / "test" / "apple" / "monday", 1, 9)
    source = open_source(str(tmp_path))
    assert sorted(source.load(["apple"], "train", SIZE).images[:, 0, 0, 0].tolist()) == list(range(9))
    assert source.load(["apple"], "test", SIZE).images[:, 0, 0, 0].tolist() == [9]
    [note] = source.notes
    assert "in monday of apple" in note


def test_splits_inside_the_classes(tmp_path: Path) -> None:
    for number, name in enumerate(["apple", "pear"]):
        fill(tmp_path / name / "Train" / "monday", 3, 10 * number)
        fill(tmp_path / name / "test", 2, 10 * number + 5)
    fill(tmp_path / "pear" / "old", 1)
    fill(tmp_path / "pear", 1)
    source = open_source(str(tmp_path))
    assert [source.count(None, split) for split in ("train", "test")] == [6, 4]
    assert source.load(["pear"], "test", SIZE).images[:, 0, 0, 0].tolist() == [15, 16]
    assert sorted(each.reason for each in source.listing.aside) == [
        "beside the folders, so of no class",
        "in old, which is not one of the splits Train, test",
    ]


def test_images_beside_the_split_inside_each_class_are_for_training(tmp_path: Path) -> None:
    for number, name in enumerate(["apple", "pear"]):
        fill(tmp_path / name, 3, 10 * number)
        fill(tmp_path / name / "monday", 1, 10 * number + 3)
        fill(tmp_path / name / "val", 2, 10 * number + 5)
    source = open_source(str(tmp_path))
    assert [source.count(None, split) for split in ("train", "test")] == [8, 4]
    assert source.load(["pear"], "test", SIZE).images[:, 0, 0, 0].tolist() == [15, 16]
    first, merged = source.notes
    assert first == "no test split in the data: val is used for testing" and "in monday of apple" in merged
    fill(tmp_path / "plum", 5)
    assert open_source(str(tmp_path)).listing.carved  # not a split: one class lacks it


def test_a_test_folder_beside_class_folders(tmp_path: Path) -> None:
    for number, name in enumerate(["apple", "pear"]):
        fill(tmp_path / name, 3, 10 * number)
        fill(tmp_path / "test" / name, 1, 10 * number + 5)
    source = open_source(str(tmp_path))
    assert source.classes == ("apple", "pear")
    assert [source.count(None, split) for split in ("train", "test")] == [6, 2]


def test_one_folder_that_holds_all_is_passed_through(tmp_path: Path) -> None:
    fill(tmp_path / "photos" / "train" / "a", 2)
    fill(tmp_path / "photos" / "test" / "a", 1)
    assert open_source(str(tmp_path)).classes == ("a",)
    fill(tmp_path / "b" / "more" / "apple", 2)
    fill(tmp_path / "b" / "more" / "pear", 2)
    assert open_source(str(tmp_path / "b")).classes == ("apple", "pear")
    fill(tmp_path / "d" / "data" / "images" / "train" / "apple", 2)
    fill(tmp_path / "d" / "data" / "images" / "test" / "apple", 1)
    deep = open_source(str(tmp_path / "d"))
    assert (deep.classes, deep.count(None, "train"), deep.count(None, "test")) == (("apple",), 2, 1)
    fill(tmp_path / "c" / "apple" / "train", 2)
    fill(tmp_path / "c" / "apple" / "test", 1)
    assert open_source(str(tmp_path / "c")).classes == ("apple",)


def test_pictures_without_a_class_are_named(tree: Path) -> None:
    fill(tree / "train", 2)
    fill(tree, 1)
    source = open_source(str(tree))
    assert source.count(None, "train") == 16
    assert "3 not used: beside the folders, so of no class, such as" in source.notes[0]
    assert "3 beside the folders" in source.summary


def test_pictures_are_recognised_by_content(tree: Path) -> None:
    apple = tree / "train" / "apple"
    (apple / "image000.png").rename(apple / "IMG_0001")
    (apple / "image001.png").rename(apple / "image001.jpg_large")
    (apple / "image002.png").rename(apple / "image002.jpg")
    (apple / "image003.png").rename(apple / "image003.mpo")
    source = open_source(str(tree))
    assert len(source.load(["apple"], "train", SIZE)) == 4
    assert source.notes == ()


def test_what_is_not_a_picture_is_counted_by_suffix(tree: Path) -> None:
    apple = tree / "train" / "apple"
    for name in ("a.txt", "b.TXT", "c.json", "BMW.note"):
        (apple / name).write_text("BM is no picture")
    (apple / "clip.mp4").write_bytes(b"x")
    (apple / "logo.svg").write_text("<svg/>")
    (apple / "raw.CR2").write_bytes(b"II*\0")
    (apple / "gone.png").symlink_to(tree / "nowhere.png")
    (apple / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(tree / "metadata.csv")
    (apple / "loop").symlink_to(tree / "train")
    source = open_source(str(tree))
    assert source.count(None, "train") == 16
    reasons = {each.reason: len(each.files) for each in source.listing.aside}
    assert reasons == {
        "not pictures (.txt 2, .json 1, .note 1)": 4,
        "videos; extract frames": 1,
        "SVG files; convert them to PNG": 1,
        "raw files of cameras; convert them to JPEG": 1,
        "links that lead to no file": 2,
        "neither files nor folders": 1,
        "links to a folder above them": 1,
    }
    assert len(source.notes) == 4
    assert "35 files: 16 train, 8 test, of 4 classes; 11 set aside: " in source.summary


def test_links_to_links_are_followed_once(tree: Path, tmp_path: Path) -> None:
    below = fill(tmp_path / "far" / "0", 1, 200)
    for i in range(30):
        place = tmp_path / "far" / str(i + 1)
        place.mkdir()
        (place / "one").symlink_to(below)
        (place / "two").symlink_to(below)
        below = place
    (tree / "train" / "apple" / "more").symlink_to(below)
    source = open_source(str(tree))
    assert source.count(["apple"], "train") == 5
    assert [len(each.files) for each in source.listing.aside] == [30]
    merged, links = source.notes
    assert "of apple" in merged and "30 not used: links to a folder that another link leads to" in links


def test_folders_hundreds_deep(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "train" / "apple")
    for _ in range(1100):  # a path of so many folders is too long to be made, or removed, at once
        Path("d").mkdir()
        os.chdir("d")
    try:
        with pytest.raises(DataError, match="hundreds deep"):
            open_source(str(tree))
    finally:
        for _ in range(1100):
            os.chdir("..")
            Path("d").rmdir()


def test_names_that_are_no_unicode(tree: Path) -> None:
    try:
        (tree / "train" / os.fsdecode(b"B\xe4r")).mkdir()
    except OSError:
        pytest.skip("the file system has Unicode names only")
    shutil.copy(tree / "train" / "apple" / "image000.png", tree / "train" / os.fsdecode(b"B\xe4r") / "1.png")
    source = open_source(str(tree))
    assert len(source.load([os.fsdecode(b"B\xe4r")], "train", SIZE)) == 1


NAMES = st.sampled_from(
    [
        *("train", "Test", "validation", "apple", "pear", "monday", ".git", "__MACOSX", "extra", "dev", "Training"),
        *("B\xe4r", "Ba\u0308r", "dot.", "-rf", "sp ace ", "\N{RED APPLE}'\"", "[b]", "new\nline", "y" * 200),
    ]
)
FILES = st.sampled_from(
    [
        *("a.png", "b.jpg", "c", "d.txt", ".hidden.png", "e.heic", "f.mp4", "Thumbs.db", "g.PNG"),
        *("gone.png", "pipe.png", "metadata.csv"),
    ]
)
TREES = st.recursive(
    st.sets(FILES, max_size=4).map(lambda names: dict.fromkeys(names, None)),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4).flatmap(
        lambda folders: st.sets(FILES, max_size=2).map(lambda names: folders | dict.fromkeys(names, None))
    ),
    max_leaves=12,
)
PIXEL = b"\x89PNG\r\n\x1a\n"


def _plant(folder: Path, inside: dict[str, Any]) -> int:
    """Write a tree and return how many files it holds and lists name besides; a hidden folder counts as one."""
    folder.mkdir()
    count = 0
    for name, below in inside.items():
        if below is None:
            count += 1
            if name == "gone.png":
                (folder / name).symlink_to("nowhere.png")
            elif name == "pipe.png":
                os.mkfifo(folder / name)
            elif name == "metadata.csv":
                (folder / name).write_text("file_name,label\na.png,apple\nb.jpg,pear\n")
                count += len({"a.png", "b.jpg"} - inside.keys())
            else:
                (folder / name).write_bytes(b"text" if name.endswith(("txt", "db", "mp4")) else PIXEL)
        else:
            inner = _plant(folder / name, below)
            count += 1 if name in (".git", "__MACOSX") else inner
    return count


@given(TREES)
@settings(deadline=None, max_examples=150)
def test_every_file_is_used_or_set_aside(tmp_path_factory: pytest.TempPathFactory, inside: dict[str, Any]) -> None:
    root = tmp_path_factory.mktemp("any") / "data"
    planted = _plant(root, inside)
    try:
        listing = folder.list_folder(root)
    except DataError:
        return
    reader = listing.reader
    assert isinstance(reader, FileReader)
    used = [path for split in reader.files.values() for paths in split for path in paths]
    away = [path for each in listing.aside for path in each.files]
    assert listing.given == len(used) + len(away) == planted
    assert len({*used, *away}) == planted
    assert all(Path(path).exists() for path in used)
    assert all(
        os.path.lexists(path) for each in listing.aside if each.reason not in (MISSING, MISSPELT) for path in each.files
    )
    assert all(each.reason for each in listing.aside)
    if not any({"gone.png", "pipe.png"} & {path.name for path in root.rglob("*")}):  # no links or devices are unpacked
        packed = open_source(shutil.make_archive(str(root), "tar", root))
        assert packed.summary == open_source(str(root)).summary


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("below", ["", "photos/train"])
def test_a_list_inside_the_folder_names_the_classes(tmp_path: Path, name: str, below: str) -> None:
    place = fill(tmp_path / below, 4)
    fill(place / "more", 2, 10)
    (place / "clip.mp4").write_bytes(b"x")
    fill(tmp_path.parent / f"{tmp_path.name}-outside", 1)
    named = {"image000.png": "cat", "more/image010.png": "dog", "image001.png": "dog", "clip.mp4": "dog"}
    named |= {"gone.png": "cat", f"../{tmp_path.name}-outside/image000.png": "cat"}
    if name.endswith("csv"):
        rows = ["file_name,text,label", *(f"{path},some words,{label}" for path, label in named.items())]
    else:
        rows = [json.dumps({"file_name": path, "label": label}) for path, label in named.items()]
    (place / name).write_text("\n".join(rows))
    source = open_source(str(tmp_path))
    assert source.classes == ("cat", "dog")
    assert source.listing.used("train") + source.listing.used("test") == 3
    assert {each.reason: len(each.files) for each in source.listing.aside} == {
        "videos; extract frames": 1, "lists of the pictures": 1, "listed, but missing": 2,
        f"not listed in {name}": 3,
    }  # fmt: skip
    assert source.listing.given == 6 + 2 + 2  # pictures, clip and list, and rows without a file


def test_lists_and_splits(tmp_path: Path) -> None:
    for start, split in enumerate(("train", "validation", "test")):
        place = fill(tmp_path / split, 2, 10 * start)
        (place / "metadata.csv").write_text(
            f"file_name,label\nimage{10 * start:03d}.png,a\nimage{10 * start + 1:03d}.png,b\n"
        )
    source = open_source(str(tmp_path))
    assert [source.count(None, split) for split in ("train", "val", "test")] == [2, 2, 2]
    assert source.load(["b"], "val", SIZE).images[0, 0, 0, 0] == 11


def test_a_list_without_classes_leaves_them_to_the_folders(tree: Path) -> None:
    (tree / "train" / "metadata.csv").write_text("file_name,text\napple/image000.png,an apple\n")
    source = open_source(str(tree))
    assert (len(source.classes), source.count(None, "train")) == (4, 16)
    assert [each.reason for each in source.listing.aside] == ["not pictures (.csv 1)"]
    (tree / "test" / "metadata.csv").write_text("file_name,label\napple/image100.png,apple\n")
    assert "1 not used: not pictures, without a column of classes, such as" in " ".join(open_source(str(tree)).notes)


@pytest.mark.parametrize("val", ["val", "valid"])
def test_exports_for_classification(tmp_path: Path, val: str) -> None:
    for number, split in enumerate(("train", val, "test")):
        fill(tmp_path / split / "ok", 2, 10 * number)
        fill(tmp_path / split / "broken", 2, 10 * number + 5)
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (tmp_path / name).write_text("x")
    source = open_source(str(tmp_path))
    assert [source.count(None, split) for split in ("train", "val", "test")] == [4, 4, 4]
    assert source.notes == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [("train/_classes.csv", "several labels of a picture"), ("train/_annotations.coco.json", "boxes for detection")],
)
def test_exports_for_other_purposes(tmp_path: Path, name: str, message: str) -> None:
    fill(tmp_path / "train", 2)
    (tmp_path / name).write_text("filename, a, b\nimage000.png, 1, 1\n")
    with pytest.raises(DataError, match=f"{message}.*Folder Structure"):
        open_source(str(tmp_path))


def test_boxes_of_yolo(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "images", 2)
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "image000.txt").write_text("0 0.5 0.5 0.1 0.1")
    with pytest.raises(DataError, match="boxes for detection"):
        open_source(str(tmp_path))


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
def test_split_covers_is_disjoint_and_ignores_the_order(names: set[str], random: Random) -> None:
    files = [f"x/{name}" for name in names]
    train, test = split_files(files)
    assert sorted([*train, *test]) == sorted(files)
    assert not set(train) & set(test)
    assert len(test) == (0 if len(files) < 2 else max(1, len(files) // 5))
    assert len(train) >= min(1, len(files))
    random.shuffle(files)
    assert split_files([path.replace("x/", "y/") for path in files]) == tuple(
        tuple(path.replace("x/", "y/") for path in half) for half in (train, test)
    )


def test_other_files_are_ignored(tree: Path) -> None:
    apple = tree / "train" / "apple"
    (apple / ".hidden.png").write_bytes(b"")
    (apple / "notes.txt").write_text("x")
    (apple / "folder.png").mkdir()
    fill(tree / "train" / ".cache", 1)
    fill(tree / "train" / "__MACOSX", 1)
    fill(apple / "@eaDir", 1)
    Image.new("RGB", (8, 8), (9, 0, 0)).save(apple / "UPPER.JPG")
    source = open_source(str(tree))
    assert len(source.classes) == 4
    assert _files(source, "train")[1] == ["UPPER.JPG", *(f"image{i:03d}.png" for i in range(4))]


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        folder.list_folder(tmp_path / "gone")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = fill(tmp_path / "a", 1) / "image000.png"
    with pytest.raises(DataError, match="is a file"):
        open_source(str(path))


def test_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
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
    with pytest.raises(DataError, match="'APPLE' = 'apple'; 'Sweet-Pepper' = 'sweet_pepper'"):
        open_source(str(tree))


def test_two_train_folders(tree: Path) -> None:
    fill(tree / "TRAIN" / "apple", 1)
    if len(list(tree.iterdir())) == 2:
        pytest.skip("the file system ignores case")
    with pytest.raises(DataError, match="TRAIN and train"):
        open_source(str(tree))


def test_folder_that_cannot_be_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(folder.os, "scandir", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        open_source(str(tree))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99)), unique=True, max_size=40))
@settings(deadline=None)
def test_a_group_is_on_one_side(names: list[tuple[int, int]]) -> None:
    files = [f"x/patient{patient}_{number}.png" for patient, number in names]
    group = grouping(r"patient(\d+)", "x")
    train, test = split_files(files, lambda path: (group(path), ""))
    assert sorted([*train, *test]) == sorted(files)
    assert not {group(path) for path in train} & {group(path) for path in test}
    if len({patient for patient, _ in names}) > 1:
        assert train
        assert test


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.integers(0, 99)), unique=True, max_size=60))
@settings(deadline=None)
def test_a_group_of_several_classes_is_on_one_side(names: list[tuple[str, int, int]]) -> None:
    classes: dict[str, list[str]] = {}
    for name, patient, number in names:
        classes.setdefault(name, []).append(f"x/{name}/patient{patient}_{number}.png")
    group = grouping(r"patient\d+", "x")
    reader = divide(classes, group=group).reader
    assert isinstance(reader, FileReader)
    sides = {split: {group(path) for of_class in files for path in of_class} for split, files in reader.files.items()}
    assert not sides["train"] & sides["test"]
    trained = [{group(path) for path in files} for files in reader.files["train"]]
    for index, files in enumerate(classes.values()):
        train, test = (reader.files[split][index] for split in ("train", "test"))
        assert sorted([*train, *test]) == sorted(files)
        assert train
        assert test or all({one} in trained for one in trained[index])  # each is the only one that a class trains on


def test_folders_as_groups(tmp_path: Path) -> None:
    for name in ("monday", "tuesday", "friday"):
        fill(tmp_path / "a" / name, 4)
        fill(tmp_path / "b" / name, 4)
    source = open_source(str(tmp_path), "folder")
    reader = source.listing.reader
    assert isinstance(reader, FileReader)
    folders = {split: {Path(path).parent.name for path in files[0]} for split, files in reader.files.items()}
    assert {split: len(names) for split, names in folders.items()} == {"train": 2, "test": 1}
    assert "in whole groups" in source.notes[0]


def test_a_grouping_that_makes_no_split_or_is_wrong(tree: Path) -> None:
    assert "--group-by does not make one" in open_source(str(tree), r"\w+\.png").notes[0]
    whole = open_source(str(tree), "folder")
    assert "are of one group: --group-by has no effect" in whole.notes[0] and not whole.listing.groups
    with pytest.raises(DataError, match=r"'\(' is not a regular expression"):
        open_source(str(tree), "(")


def test_links_to_themselves_are_broken(tree: Path) -> None:
    for link in (tree / "self", tree / "train" / "apple" / "loop.png"):
        link.symlink_to(link.name)
    source = open_source(str(tree))
    assert {each.reason: len(each.files) for each in source.listing.aside} == {"links that lead to no file": 2}
    assert source.count(["apple"], "train")


def test_a_link_to_a_class_is_no_second_class(tree: Path) -> None:
    (tree / "train" / "parasol").symlink_to("apple")
    source = open_source(str(tree))
    assert "parasol" not in source.classes
    assert {each.reason: len(each.files) for each in source.listing.aside} == {"links to a folder of the data": 1}


@pytest.mark.parametrize("splits", [("train", "test"), ("train2017", "val2017"), ("training_set", "test_set")])
def test_splits_without_class_folders_are_no_classes(tmp_path: Path, splits: tuple[str, str]) -> None:
    for name in splits:
        fill(tmp_path / name, 3)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances.json").write_text("{}")
    with pytest.raises(DataError, match="no class folders"):
        open_source(str(tmp_path))


def test_sets_are_splits(tmp_path: Path) -> None:
    fill(tmp_path / "training_set" / "apple", 3)
    fill(tmp_path / "test_set" / "apple", 2)
    source = open_source(str(tmp_path))
    assert [source.count(["apple"], split) for split in ("train", "test")] == [3, 2]


def test_exports_of_boxes_in_folders_are_refused(tmp_path: Path) -> None:
    for name in ("JPEGImages", "SegmentationClass"):
        fill(tmp_path / name, 3)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match="Pascal VOC"):
        open_source(str(tmp_path))


def test_a_picture_beside_the_one_folder_of_the_data_is_set_aside(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("a", "b"):
            fill(tmp_path / "photos" / split / label, 1)
    fill(tmp_path, 1)
    listing = open_source(str(tmp_path)).listing
    assert listing.classes == ("a", "b") and not listing.carved
    assert [(each.reason, [Path(f).name for f in each.files]) for each in listing.aside] == [
        ("beside the folders, so of no class", ["image000.png"])
    ]


def test_a_split_of_loose_pictures_is_named_as_one(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "apple", 9)
    fill(tmp_path / "test", 2)
    assert "in test, which has no class folders" in " ".join(open_source(str(tmp_path)).notes)


def test_classes_in_folders_that_are_taken_for_classes_are_named(tmp_path: Path) -> None:
    for above, name in (("photos", "laptop"), ("more", "umbrella")):
        for split in ("train", "val"):
            fill(tmp_path / above / name / split, 3)
    assert "in umbrella of more" in " ".join(open_source(str(tmp_path)).notes)


def test_accents_of_a_class_folder_in_two_forms(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "B\xe4r") for form in ("NFC", "NFD"))
    fill(tmp_path / "train" / decomposed, 2)
    fill(tmp_path / "test" / composed, 1)
    source = open_source(str(tmp_path))
    assert [len(source.load([name], "train", SIZE)) for name in (composed, decomposed)] == [2, 2]
    fill(tmp_path / "train" / composed, 1)
    if len(list((tmp_path / "train").iterdir())) < 2:
        pytest.skip("the file system takes them for one")
    with pytest.raises(DataError, match="alike to the eye: their accents are stored in two ways"):
        open_source(str(tmp_path))
