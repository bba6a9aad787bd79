"""What a data set holds: of every file that was given, whether it is used, or why not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mvp_edge.data.images import OnImage, Pixels, Size, decode_all

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
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
class Aside:
    """Files that are not used, for one reason.

    Attributes:
        reason: Why, in words that follow a count of files.
        files: Paths; of a folder that was not entered, the folder.
        pictures: Whether these may be pictures, so that the user should know.
    """

    reason: str
    files: tuple[str, ...]
    pictures: bool = True


@dataclass(frozen=True)
class Listing:
    """The classes of a data set and where each given file went.

    Attributes:
        classes: Class names as the data spells them.
        reader: Reads the images that are used.
        notes: Notes for the user.
        aside: Files that are not used, by reason.
        carved: Whether the test split is a part of the training images, as the data have none.
    """

    classes: tuple[str, ...]
    reader: Reader
    notes: tuple[str, ...] = ()
    aside: tuple[Aside, ...] = ()
    carved: bool = False

    def used(self, split: Split) -> int:
        """Return the number of files used in a split."""
        return sum(self.reader.count(split, index) for index in range(len(self.classes)))

    @property
    def given(self) -> int:
        """Number of files given: used and set aside."""
        return sum(map(self.used, SPLITS)) + sum(len(each.files) for each in self.aside)


@dataclass(frozen=True)
class FileReader:
    """Reads image files.

    Attributes:
        files: For each split, the paths of every class.
    """

    files: Mapping[Split, Sequence[Sequence[str]]]

    def count(self, split: Split, index: int) -> int:
        """Return the number of files of the class at `index`."""
        return len(self.files[split][index]) if split in self.files else 0

    def read(self, split: Split, indices: Sequence[int], size: Size, on_image: OnImage | None) -> Pixels:
        """Decode the files of the classes at `indices`."""
        pairs = [(path, label) for label, index in enumerate(indices) for path in self.files[split][index]]
        return decode_all([path for path, _ in pairs], [label for _, label in pairs], size, on_image)


def split_files(files: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide the files of a class into training and test files by the hashes of their names.

    The split depends only on the names: not on the machine, the order or the directory.

    Returns:
        Training and test files, each sorted: a fifth is test, at least one file, unless it is the only one.
    """
    ranked = sorted(files, key=lambda path: (hashlib.sha256(os.fsencode(os.path.basename(path))).digest(), path))  # noqa: PTH119
    test = min(max(1, int(len(ranked) * TEST_SHARE)), max(0, len(ranked) - 1))
    return tuple(sorted(ranked[test:])), tuple(sorted(ranked[:test]))


def divide(classes: Mapping[str, Sequence[str]], aside: Sequence[Aside] = ()) -> Listing:
    """Return the listing of classes without a test split: a part of each class becomes the test split."""
    halves = [split_files(files) for files in classes.values()]
    reader = FileReader({"train": [train for train, _ in halves], "test": [test for _, test in halves]})
    note = f"no test split in the data: {TEST_SHARE:.0%} of each class, chosen by file name, are used for testing"
    return Listing(tuple(classes), reader, (note,), tuple(aside), carved=True)


def summary(listing: Listing, name: str) -> str:
    """Return how many files were given, used and set aside, in one line."""
    parts = [f"{count:,} {split}" for split in SPLITS if (count := listing.used(split))]
    classes = f"{len(listing.classes):,} class" + ("" if len(listing.classes) == 1 else "es")
    text = f"{name}: {listing.given:,} files, {', '.join(parts) or 'none used'} of {classes}"
    if not listing.aside:
        return text
    total = sum(len(each.files) for each in listing.aside)
    return f"{text}; {total:,} set aside: " + ", ".join(f"{len(e.files):,} {e.reason}" for e in listing.aside)


def warnings_of(listing: Listing) -> list[str]:
    """Return a warning for each reason for which files that may be pictures are not used."""
    return [
        f"{len(each.files):,} not used: {each.reason}, such as {Path(each.files[0])}"
        for each in listing.aside
        if each.pictures
    ]
