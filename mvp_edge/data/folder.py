"""Image folders: which class and split every file belongs to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mvp_edge.core.errors import DataError
from mvp_edge.data.images import IMAGE_SUFFIXES, OnImage, Pixels, Size, decode_all
from mvp_edge.names.tasks import canonical

Split = Literal["train", "test"]
LAYOUTS = "DIR/train/CLASS/* with DIR/test/CLASS/* (or val, valid), or DIR/CLASS/*"

_TRAIN = ("train",)
_TEST = ("test", "val", "valid")
TEST_SHARE = 0.2


class Reader(Protocol):
    """Reads images by the positions of their classes."""

    def count(self, split: Split, index: int) -> int:
        """Return the number of images of the class at `index`."""
        ...

    def read(self, split: Split, indices: Sequence[int], size: Size, on_image: OnImage | None) -> Pixels:
        """Read the images of the classes at `indices`; a label is a position in `indices`."""
        ...


@dataclass(frozen=True)
class Listing:
    """The classes of a data set, the reader of their images, and notes for the user."""

    classes: tuple[str, ...]
    reader: Reader
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileReader:
    """Reads image files.

    Attributes:
        files: For each split, the files of every class.
    """

    files: Mapping[Split, Sequence[Sequence[Path]]]

    def count(self, split: Split, index: int) -> int:
        """Return the number of files of the class at `index`."""
        return len(self.files[split][index])

    def read(self, split: Split, indices: Sequence[int], size: Size, on_image: OnImage | None) -> Pixels:
        """Decode the files of the classes at `indices`."""
        pairs = [(path, label) for label, index in enumerate(indices) for path in self.files[split][index]]
        return decode_all([path for path, _ in pairs], [label for _, label in pairs], size, on_image)


def split_files(files: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Divide the files of a class into training and test files by the hashes of their names.

    The split depends only on the names: not on the machine, the order or the directory.

    Returns:
        Training and test files, each sorted: a fifth is test, at least one file, unless it is the only one.
    """
    ranked = sorted(files, key=lambda path: (hashlib.sha256(os.fsencode(path.name)).digest(), path.name))
    test = min(max(1, int(len(ranked) * TEST_SHARE)), max(0, len(ranked) - 1))
    return tuple(sorted(ranked[test:])), tuple(sorted(ranked[:test]))


def list_folder(folder: Path) -> Listing:
    """Find classes, splits and files below `folder`.

    Args:
        folder: A directory in one of the `LAYOUTS`. Hidden files and files without the suffix of an image are ignored.

    Returns:
        The classes in alphabetical order. Without test images a part of the training images becomes the test split.

    Raises:
        DataError: If `folder` is missing, a file, empty, unreadable or in no known layout, or if two class folders
            have the same name up to case, `-`, `_` and blanks.
    """
    if not folder.exists():
        raise DataError(f"{folder} does not exist; give a directory with the layout {LAYOUTS}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; give a directory with the layout {LAYOUTS}")
    try:
        return _list(folder)
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error}; check its permissions") from error


def list_classes(folder: Path, ignore: Sequence[str] = ()) -> dict[str, tuple[Path, ...]]:
    """Return the sorted image files of every class folder in `folder`."""
    return {name: _image_files(path) for name, path in _folders(folder).items() if name not in ignore}


def divide(classes: Mapping[str, Sequence[Path]]) -> Listing:
    """Return the listing of classes without a test split: a part of each class becomes the test split."""
    halves = [split_files(files) for files in classes.values()]
    reader = FileReader({"train": [train for train, _ in halves], "test": [test for _, test in halves]})
    note = f"no test split in the data: {TEST_SHARE:.0%} of each class, chosen by file name, are used for testing"
    return Listing(tuple(classes), reader, (note,))


def _list(folder: Path) -> Listing:
    train, train_notes = _split_folder(folder, _TRAIN)
    test, test_notes = _split_folder(folder, _TEST)
    only_splits = test is not None and all(name.lower() in _TEST for name in _folders(folder))
    if train is None and not only_splits:
        listing = divide(_checked(folder))
    elif test is None and train is not None:
        listing = divide(_checked(train))
    else:
        listing = _join(_checked(train) if train else {}, _checked(test) if test else {})
        if train is None:
            test_notes += (f"{folder} has no train folder; its images are only used for testing",)
    if not any(listing.reader.count(split, i) for split in ("train", "test") for i in range(len(listing.classes))):
        raise DataError(
            f"{folder} has no images; the layout must be {LAYOUTS}, "
            f"and image files must end in one of {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return Listing(listing.classes, listing.reader, listing.notes + train_notes + test_notes)


def _join(train: Mapping[str, Sequence[Path]], test: Mapping[str, Sequence[Path]]) -> Listing:
    """Join classes whose folders are spelled differently in the two splits."""
    names = {canonical(name): name for name in (*test, *train)}
    ordered = sorted(names, key=lambda key: names[key])
    by_split: dict[Split, Mapping[str, Sequence[Path]]] = {"train": train, "test": test}
    by_class: dict[Split, list[Sequence[Path]]] = {}
    for split, found in by_split.items():
        by_key = {canonical(name): files for name, files in found.items()}
        by_class[split] = [by_key.get(key, ()) for key in ordered]
    return Listing(tuple(names[key] for key in ordered), FileReader(by_class))


def _split_folder(folder: Path, names: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """Find the folder of a split; a folder with images directly inside is a class with that name."""
    found = [
        path
        for wanted in names
        for name, path in _folders(folder).items()
        if name.lower() == wanted and (_folders(path) or not _image_files(path))
    ]
    if not found:
        return None, ()
    unused = tuple(f"{path} is not used, {found[0].name} is the test split" for path in found[1:])
    if len({path.name.lower() for path in found}) < len(found):
        raise DataError(f"{folder} has {' and '.join(path.name for path in found)}; keep one of them")
    return found[0], unused


def _checked(folder: Path) -> dict[str, tuple[Path, ...]]:
    classes = list_classes(folder)
    if not classes:
        loose = len(_image_files(folder))
        found = f"{loose} images but no class folder" if loose else "no class folder"
        raise DataError(f"{folder} has {found}; the layout must be {LAYOUTS}")
    same: dict[str, list[str]] = {}
    for name in classes:
        same.setdefault(canonical(name), []).append(name)
    clashes = [" = ".join(names) for names in same.values() if len(names) > 1]
    if clashes:
        raise DataError(f"{folder} has several folders for one class name: {'; '.join(clashes)}; merge or rename them")
    return classes


def _folders(folder: Path) -> dict[str, Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith((".", "__")) and entry.is_dir()]
    return {name: folder / name for name in sorted(names)}


def _image_files(folder: Path) -> tuple[Path, ...]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    # Not Path.suffix: tens of thousands of Path objects take longer to make than the directory to read.
    return tuple(folder / name for name in sorted(names) if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)  # noqa: PTH122
