"""Leaks: sizes, formats, cameras and marks of one class, and thumbnails that tell classes apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from mvp_edge.data import open_source
from mvp_edge.data.copies import Prints, prints
from mvp_edge.data.images import Origin
from mvp_edge.data.leaks import coarse_accuracy, cross_validated, leaks, sample

NAMES = ("fox", "hen", "owl")


def _noise(count: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 255, (count, 3, side, side), dtype=np.uint8))


def _labels(count: int) -> np.ndarray:
    return np.repeat(np.arange(len(NAMES)), count)


def _found(origins: list[Origin], count: int = 12) -> list[str]:
    labels = _labels(count)
    return leaks(origins, labels, _noise(len(labels)), labels, NAMES)


def _origins(*of_classes: Origin, count: int = 12) -> list[Origin]:
    return [origin for origin in of_classes for _ in range(count)]


PLAIN = Origin((640, 480), "JPEG", "Canon R5")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (PLAIN._replace(size=(100, 50)), "hen have 100 x 50 pixels"),
        (PLAIN._replace(format="PNG"), "hen are PNG files"),
        (PLAIN._replace(camera="Nikon Z6"), "hen are from Nikon Z6"),
        (PLAIN._replace(camera=""), "hen are from no known camera"),
    ],
)
def test_how_pictures_of_one_class_were_stored(other: Origin, words: str) -> None:
    assert _found(_origins(PLAIN, other, PLAIN)) == [f"12 of 12 images of {words}, and 0 of 24 others"]


def test_what_classes_share_is_no_leak() -> None:
    assert _found(_origins(PLAIN, PLAIN, PLAIN)) == []
    mixed = [PLAIN, PLAIN._replace(size=(9, 9), format="PNG", camera="")]
    assert _found([mixed[i % 2] for i in range(36)]) == []
    assert _found([PLAIN._replace(size=(i, i)) for i in range(36)]) == []
    assert _found([]) == []
    few = _origins(PLAIN, PLAIN._replace(format="PNG"), PLAIN, count=6)
    assert _found(few, count=6) == []


def test_nearly_all_is_enough() -> None:
    origins = _origins(PLAIN, PLAIN._replace(format="PNG"), PLAIN, count=40)
    origins[0], origins[41] = origins[41], origins[0]
    assert _found(origins, 40) == ["39 of 40 images of hen are PNG files, and 1 of 80 others"]


MARKS = {
    "around the border": (slice(None), slice(None)),
    "at the bottom right": (slice(26, 30), slice(24, 32)),
    "in the middle": (slice(14, 18), slice(14, 18)),
    "at the top left": (slice(0, 3), slice(0, 3)),
}


@pytest.mark.parametrize("where", MARKS)
def test_a_mark_of_one_class(where: str) -> None:
    labels, images = _labels(15), _noise(45)
    rows, columns = MARKS[where]
    inside = images[15:30, :, 2:-2, 2:-2].clone()
    images[15:30, :, rows, columns] = 200
    if where == "around the border":
        images[15:30, :, 2:-2, 2:-2] = inside
    found = leaks([], labels, images, labels, NAMES)
    assert len(found) == 1
    assert f"all 15 images of hen that were compared are the same {where}" in found[0]


def test_a_border_of_all_classes_is_no_mark() -> None:
    labels, images = _labels(15), _noise(45)
    images[:, :, :3] = 0
    assert leaks([], labels, images, labels, NAMES) == []


def test_many_leaks_are_counted() -> None:
    labels = np.repeat(np.arange(9), 12)
    names = [f"c{i}" for i in range(9)]
    origins = [PLAIN._replace(size=(int(i), 9)) for i in labels]
    found = leaks(origins, labels, _noise(len(labels)), labels, names)
    assert len(found) == 6
    assert found[-1] == "4 more classes have a size of their own"


def test_sampled_pictures_are_of_all_classes() -> None:
    labels = np.array([0] * 100 + [1] * 3 + [2] * 41)
    rows = sample(labels)
    assert np.bincount(labels[rows]).tolist() == [20, 3, 14]
    assert rows.max() > 140


def test_thumbnails_tell_what_differs_in_colour() -> None:
    labels, images = _labels(30), _noise(90)
    images[30:60] = images[30:60] // 2
    images[60:] = 255 - images[60:] // 2
    given = prints(images)
    assert coarse_accuracy(given, labels, given, labels) == 100
    assert cross_validated(given, labels, np.arange(90)) == 100
    plain = prints(_noise(90))
    found = cross_validated(plain, labels, np.arange(90))
    assert found is not None
    assert found < 60


def test_each_class_counts_alike_and_copies_once() -> None:
    labels = np.array([0] * 180 + [1] * 20)
    given = prints(_noise(200))
    found = cross_validated(given, labels, np.arange(200))
    assert found is not None
    assert 25 < found < 75  # all of the larger class would be 90 % right
    assert cross_validated(given, labels, np.where(labels == 1, 180, np.arange(200))) is None
    assert cross_validated(Prints(given.hashes[:9], given.thumbnails[:9]), labels[:9], np.arange(9)) is None


def test_cameras_are_read_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Canon\0", "EOS  R5"
    Image.new("RGB", (40, 30)).save(tmp_path / "a" / "1.jpg", exif=exif)
    Image.new("RGB", (50, 30)).save(tmp_path / "a" / "2.png")
    (tmp_path / "a" / "3.png").write_bytes(b"x")
    for i in range(4, 20):
        Image.new("RGB", (50, 30)).save(tmp_path / "a" / f"{i}.png")
    source = open_source(str(tmp_path))
    origins = {
        Path(f).name: o
        for s in ("train", "test")
        for i in [source.load(["a"], s, (8, 8))]
        for f, o in zip(i.files, i.origins, strict=True)
    }
    assert origins["1.jpg"] == Origin((40, 30), "JPEG", "Canon EOS R5")
    assert origins["2.png"] == Origin((50, 30), "PNG", "")
    assert "3.png" not in origins
