"""The images of a run: splits, copies, and the account of all files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.prune.pictures import LEFT_OUT, Pictures, read_pictures


def _scene(folder: Path, name: str, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8))
    small.resize((48, 48), Image.Resampling.BICUBIC).save(folder / name)
    return folder / name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed = 0
    for split, count in (("train", 6), ("test", 4)):
        for label in ("a", "b", "other"):
            for i in range(count):
                _scene(tmp_path / "data" / split / label, f"{i}.png", seed)
                seed += 1
    return tmp_path / "data"


def _read(root: Path) -> Pictures:
    return read_pictures(open_source(str(root)), ("a", "b"), (32, 32), SilentProgress())


def test_all_files_are_accounted_for(root: Path) -> None:
    (root / "notes.txt").write_text("x")
    (root / "train" / "a" / "bad.png").write_bytes(b"")
    found = _read(root)
    assert found.record.used == {"train": 12, "test": 8}
    assert found.record.aside == {
        "not pictures (.txt 1)": 1, "cannot be read": 1, "of classes or splits that this task does not use": 10,
    }  # fmt: skip
    assert found.record.given == 32 == sum(found.record.used.values()) + sum(found.record.aside.values())
    assert found.record.summary.startswith("32 files: 12 train, 8 test, of 2 classes; 12 set aside: ")
    assert (found.val, found.copied, found.record.copies) == (None, (), 0)


def test_copies_of_training_images_are_left_out_of_the_test(root: Path) -> None:
    for i in range(3):
        shutil.copy(root / "train" / "a" / f"{i}.png", root / "test" / "a" / f"copy{i}.png")
    with Image.open(root / "train" / "b" / "0.png") as image:
        image.resize((90, 90)).save(root / "test" / "b" / "resized.jpg", quality=80)
    found = _read(root)
    assert found.test is not None
    assert found.record.used == {"train": 12, "test": 8}
    assert found.record.aside[LEFT_OUT] == 4 == found.record.copies == len(found.copied)
    assert sorted(Path(path).name for path in found.test.files) == sorted(2 * [f"{i}.png" for i in range(4)])
    assert (str(root / "test/b/resized.jpg"), str(root / "train/b/0.png")) in found.record.copied
    assert "4 of 12 test images are copies of training images, such as" in found.warnings[-1]


def test_no_test_image_is_left(root: Path) -> None:
    for label in ("a", "b"):
        shutil.rmtree(root / "test" / label)
        shutil.copytree(root / "train" / label, root / "test" / label)
    found = _read(root)
    assert found.test is None
    assert "no test images remain, so the accuracy is unknown" in found.warnings[-1]
    assert found.record.given == sum(found.record.used.values()) + sum(found.record.aside.values())


def test_bursts_point_to_the_grouping(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(10):
            _scene(tmp_path / label, f"{label}{i}.png", ord(label))
    found = _read(tmp_path)
    assert "divide bursts and videos as a whole with --group-by" in found.warnings[-1]


def test_one_image_with_two_classes_is_named(root: Path) -> None:
    shutil.copy(root / "train" / "a" / "0.png", root / "train" / "b" / "wrong.png")
    found = _read(root)
    assert found.record.two_classes == ((str(root / "train/a/0.png"), str(root / "train/b/wrong.png")),)
    assert "the same image has two classes" in found.warnings[-1]


def test_a_validation_split_is_read_if_it_has_all_classes(root: Path) -> None:
    _scene(root / "validation" / "a", "v.png", 901)
    found = _read(root)
    assert found.val is None
    assert found.record.aside["of classes or splits that this task does not use"] == 11
    _scene(root / "validation" / "b", "v.png", 902)
    found = _read(root)
    assert found.val is not None
    assert found.record.used == {"train": 12, "val": 2, "test": 8}
