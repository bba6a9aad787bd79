"""What a data set holds: of every file that was given, whether it is used, or why not."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal, Protocol, TypeVar

from mvp_edge.core.errors import DataError
from mvp_edge.data.copies import Copies
from mvp_edge.data.formats import NOT_PICTURES
from mvp_edge.data.images import Decode, OnImage, Pixels, Size, decode_all
from mvp_edge.names.tasks import canonical

_Item = TypeVar("_Item")
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
TEST_SHARE = 0.2
UNREADABLE = "cannot be read"
Group = Callable[[str], str]
"""Returns the group that a path belongs to."""
Key = Callable[[str], tuple[str, str]]
Found = dict[tuple[str, bool], list[str]]
"""Paths set aside, by reason and whether they may be pictures."""


class Reader(Protocol):
    """Reads images by the positions of their classes."""

    def count(self, split: Split, index: int) -> int:
        """Return the number of images of the class at `index`."""
        ...

    def read(
        self, split: Split, indices: Sequence[int], size: Size, on_image: OnImage | None, at_most: int | None = None
    ) -> Pixels:
        """Read the images of the classes at `indices`; a label is a position in `indices`.

        Of a class with more than `at_most` images only so many are read, at even distances.
        """
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
    pictures: bool


@dataclass(frozen=True)
class Listing:
    """The classes of a data set and where each given file went.

    Attributes:
        classes: Class names as the data spells them.
        reader: Reads the images that are used.
        notes: Notes for the user.
        aside: Files that are not used, by reason.
        carved: How the test split was made of the training images, if the data have none; after `splits.divided` with
            all copies of a picture on one side.
        groups: The group of each path, if groups were asked for.
        copies: What is a copy of what, if copies were looked for to divide the data.
    """

    classes: tuple[str, ...]
    reader: Reader
    notes: tuple[str, ...] = ()
    aside: tuple[Aside, ...] = ()
    carved: Literal["", "by name", "by group", "by copies"] = ""
    groups: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    copies: Copies | None = field(default=None, repr=False)

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
        decode: How.
    """

    files: Mapping[Split, Sequence[Sequence[str]]]
    decode: Decode = decode_all

    def count(self, split: Split, index: int) -> int:
        """Return the number of files of the class at `index`."""
        return len(self.files[split][index]) if split in self.files else 0

    def read(
        self, split: Split, indices: Sequence[int], size: Size, on_image: OnImage | None, at_most: int | None = None
    ) -> Pixels:
        """Decode the files of the classes at `indices`."""
        pairs = [
            (path, label) for label, index in enumerate(indices) for path in spread(self.files[split][index], at_most)
        ]
        return self.decode([path for path, _ in pairs], [label for _, label in pairs], size, on_image)


def spread(items: Sequence[_Item], at_most: int | None) -> Sequence[_Item]:
    """Return at most so many of some items, at even distances; all if that is None."""
    if at_most is None or len(items) <= at_most:
        return items
    return [items[i * len(items) // at_most] for i in range(at_most)]


def by_name(path: str) -> tuple[str, str]:
    """Return the key of a file that is divided by its name: files of one name in different folders are apart."""
    return os.path.basename(path), path  # noqa: PTH119


def split_files(
    files: Iterable[str], key: Key = by_name, class_of: Callable[[str], object] = lambda path: ""
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide files into training and test files by the hashes of their names.

    The split depends only on the names: not on the machine, the order or the directory.

    Args:
        files: Paths.
        key: Returns what is hashed for a path, and what tells groups with the same hash apart; the files of a group are
            on one side, also those of different classes.
        class_of: Returns the class of a path; without it all files are of one class.

    Returns:
        Training and test files, each sorted: a fifth of each class is test, or less where no group fits; at least one
        group of each is test, unless a class would have none for training then.
    """
    together: dict[tuple[str, str], list[str]] = {}
    for path in files:
        together.setdefault(key(path), []).append(path)
    ranked = sorted(together, key=lambda each: (hashlib.sha256(os.fsencode(each[0])).digest(), each))
    sizes = Counter(map(class_of, chain.from_iterable(together.values())))
    left = Counter(chain.from_iterable(set(map(class_of, paths)) for paths in together.values()))  # groups not chosen
    taken = Counter[object]()
    chosen = set[tuple[str, str]]()

    def choose(each: tuple[str, str], counts: Mapping[object, int]) -> None:
        chosen.add(each)
        taken.update(counts)
        left.subtract(counts.keys())

    for each in ranked:
        paths = together[each]
        counts = Counter(map(class_of, paths)) if len(paths) > 1 else {class_of(paths[0]): 1}
        if all(left[c] > 1 and taken[c] + n <= max(1, int(sizes[c] * TEST_SHARE)) for c, n in counts.items()):
            choose(each, counts)
    for name in (c for c in sizes if not taken[c] and left[c] > 1):
        groups = ((each, Counter(map(class_of, together[each]))) for each in ranked)
        able = [(each, counts) for each, counts in groups if counts[name] and all(left[c] > 1 for c in counts)]
        if able:
            choose(*min(able, key=lambda group: group[1].total()))
    train = (path for each in ranked if each not in chosen for path in together[each])
    return tuple(sorted(train)), tuple(sorted(path for each in chosen for path in together[each]))


def grouping(how: str, root: str) -> Group:
    """Return the function that tells the group of a path: its folder, or what a regular expression finds in it.

    Only the part of a path below `root` counts, so that the groups do not depend on where the data are.

    Raises:
        DataError: `how` is neither `folder` nor a regular expression.
    """
    above = os.path.join(root, "")  # noqa: PTH118
    if how == "folder":
        return lambda path: os.path.dirname(path.removeprefix(above))  # noqa: PTH120
    try:
        pattern = re.compile(how)
    except re.error as error:
        raise DataError(
            f"--group-by {how!r} is not a regular expression ({error}); write one, such as 'patient\\d+', or folder"
        ) from error

    def group(path: str) -> str:
        below = path.removeprefix(above)
        match = pattern.search(below)
        return below if match is None else match.group(1 if pattern.groups else 0) or ""

    return group


def arranged(
    found: Mapping[Split, Mapping[str, Sequence[str]]], aside: Found, group: Group | None, place: str, val: str
) -> Listing:
    """Return the listing of files by split and class.

    Args:
        found: Paths by split and class; the spelling of a class may differ between splits.
        aside: Files that are not used.
        group: Where the test split is a part of the training images, the group of a path.
        place: Where the data are, for notes.
        val: Name of the validation split in the data.
    """
    notes: list[str] = []
    if not found["test"] and found["val"]:
        found = {"train": found["train"], "val": {}, "test": found["val"]}
        notes.append(f"no test split in the data: {val} is used for testing")
    away = tuple(
        Aside(_with_suffixes(reason, files) if reason == NOT_PICTURES else reason, tuple(sorted(files)), pictures)
        for (reason, pictures), files in sorted(aside.items(), key=lambda kv: -len(kv[1]))
    )
    if not found["test"] and not found["val"]:
        return divide({name: found["train"][name] for name in sorted(found["train"])}, away, group)
    if group is not None:
        alone = [name for name, paths in found["train"].items() if len(paths) > 1 and len(set(map(group, paths))) == 1]
        why = f"all images of {alone[0]} are of one group: --group-by has no effect" if alone else (
            "--group-by does not make one, but images left out of training for choices are left out in whole groups"
        )  # fmt: skip
        notes.append(f"the data have a test split, and {why}")
        group = None if alone else group
    if not found["train"]:
        notes.append(f"{place} has no train split; its images are only used for testing")
    names = {canonical(name): name for split in ("val", "test", "train") for name in found[split]}
    ordered = sorted(names, key=lambda key: names[key])
    files: dict[Split, list[tuple[str, ...]]] = {}
    for split, classes in found.items():
        by_key = {canonical(name): paths for name, paths in classes.items()}
        files[split] = [tuple(sorted(by_key.get(key, ()))) for key in ordered]
    groups = _groups(chain.from_iterable(chain.from_iterable(files.values())), group)
    return Listing(tuple(names[key] for key in ordered), FileReader(files), tuple(notes), away, groups=groups)


def _groups(paths: Iterable[str], group: Group | None) -> dict[str, str]:
    return {} if group is None else {path: group(path) for path in paths}


def renamed(listing: Listing, folder: str, name: str) -> Listing:
    """Return the listing of a folder with paths that begin with `name` in place of the folder's own."""

    def new(paths: Iterable[str]) -> tuple[str, ...]:
        return tuple(name + path.removeprefix(folder) if path.startswith(folder) else path for path in paths)

    assert isinstance(listing.reader, FileReader)  # a folder holds files
    files: dict[Split, list[tuple[str, ...]]] = {}
    for split, classes in listing.reader.files.items():
        files[split] = [new(paths) for paths in classes]
    aside = tuple(replace(each, files=new(each.files)) for each in listing.aside)
    notes = tuple(note.replace(folder, name) for note in listing.notes)
    groups = dict(zip(new(listing.groups), listing.groups.values(), strict=True))
    return replace(listing, reader=FileReader(files), notes=notes, aside=aside, groups=groups)


def clashes(names: Iterable[str]) -> str:
    """Return names that mean one class, in words; empty if there are none."""
    same: dict[str, list[str]] = {}
    for name in names:
        same.setdefault(canonical(name), []).append(name)
    return "; ".join(_equal(sorted(spellings)) for spellings in same.values() if len(spellings) > 1)


def _equal(names: Sequence[str]) -> str:
    """Return spellings of one name in words; accents may be a part of their letter or follow it, which looks alike."""
    text = " = ".join(map(repr, names))
    alike = len({unicodedata.normalize("NFC", name) for name in names}) < len(names)
    return f"{text} (alike to the eye: their accents are stored in two ways)" if alike else text


def _with_suffixes(reason: str, files: Sequence[str]) -> str:
    """Return a reason with the suffixes of the files, the most frequent first."""
    counts = Counter(os.path.splitext(path)[1].lower() or "no suffix" for path in files)  # noqa: PTH122
    shown = ", ".join(f"{suffix} {count:,}" for suffix, count in counts.most_common(4))
    return f"{reason} ({shown}{', ...' if len(counts) > 4 else ''})"


def divide(classes: Mapping[str, Sequence[str]], aside: Sequence[Aside] = (), group: Group | None = None) -> Listing:
    """Return the listing of classes without a test split: a part of each class becomes the test split."""
    if group is None:
        halves = [split_files(files) for files in classes.values()]
    else:
        number = {path: i for i, files in enumerate(classes.values()) for path in files}
        sides = split_files(number, lambda path: (group(path), ""), number.__getitem__)
        halves = [[tuple(p for p in side if number[p] == i) for side in sides] for i in range(len(classes))]
    reader = FileReader({"train": [train for train, _ in halves], "test": [test for _, test in halves]})
    what, how = ("images", "at least one, chosen by file name") if group is None else ("groups", "in whole groups")
    note = f"no test split in the data, and no class has two {what}, so that none can be made"
    if any(test for _, test in halves):
        note = (
            f"no test split in the data: of each class of several {what} {TEST_SHARE:.0%}, {how}, are used for testing"
        )
    groups = _groups(chain.from_iterable(classes.values()), group)
    return Listing(tuple(classes), reader, (note,), tuple(aside), "by name" if group is None else "by group", groups)


def in_words(given: int, used: Mapping[str, int], aside: Mapping[str, int], classes: int) -> str:
    """Return how many files were given, used by split and set aside by reason, in one line."""
    parts = [f"{count:,} {split}" for split, count in used.items() if count]
    text = f"{given:,} files: {', '.join(parts) or 'none used'}, of {classes:,} class{'' if classes == 1 else 'es'}"
    if not aside:
        return text
    return f"{text}; {sum(aside.values()):,} set aside: " + ", ".join(f"{n:,} {why}" for why, n in aside.items())


def unused(aside: Found) -> str:
    """Return how many files that may be pictures are not used, by reason, in words; empty if there are none."""
    away = [f"{len(files):,} {reason}, such as {files[0]}" for (reason, pictures), files in aside.items() if pictures]
    return f"; not used: {', '.join(away)}" if away else ""


def warnings_of(listing: Listing) -> list[str]:
    """Return a warning for each reason for which files that may be pictures are not used."""
    return [
        f"{len(each.files):,} not used: {each.reason}, such as {each.files[0]}"
        for each in listing.aside
        if each.pictures
    ]
