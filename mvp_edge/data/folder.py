"""Image folders: which class and split every file belongs to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mvp_edge.core.errors import DataError
from mvp_edge.data.formats import FORMAT_OF, NOT_PICTURES, why_not_picture, why_unread
from mvp_edge.data.listing import (
    SPLITS,
    Aside,
    FileReader,
    Found,
    Group,
    Listing,
    Split,
    arranged,
    clashes,
    grouping,
    unused,
)
from mvp_edge.data.table import MISSING, MISSPELT, ROLES, Row, Table, folded, listed, read_table
from mvp_edge.names.tasks import canonical

LAYOUTS = "DIR/train/CLASS/* with DIR/test/CLASS/* (or val), DIR/CLASS/{train,test}/*, or DIR/CLASS/*"

METADATA = ("metadata.csv", "metadata.jsonl")
"""Lists of pictures and their classes, inside a folder."""

MOST_LISTS = 100  # files that are looked into
_LIST = "lists of pictures and classes; folders give the classes, unless the list is given in place of the folder"
_FOREIGN = {
    "_classes.csv": "Roboflow's export with several labels of a picture; one class each is required: "
    "export it as Folder Structure",
    "_annotations.coco.json": "an export of boxes for detection; one class a picture is required: "
    "export it for classification, as Folder Structure",
}
"""Files of exports for other purposes than classification."""

_EXPORTS = (({"images", "labels"}, "YOLO"), ({"annotations", "jpegimages"}, "Pascal VOC"))
"""Folders that such exports have, as `canonical` spells them."""

_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "@eadir", "$recycle.bin"})
"""Files and folders of operating systems and of network storage, which keeps small copies of pictures."""

Identity = tuple[int, int]
"""Device and number of a folder, the same by whatever link it is reached."""


@dataclass(frozen=True, eq=False)
class _Folder:
    """A folder that was read: the names of its pictures and lists, and its folders; all sorted.

    `link` tells whether it was reached by one.
    """

    path: str
    name: str
    identity: Identity
    link: bool = False
    pictures: tuple[str, ...] = ()
    folders: tuple[_Folder, ...] = ()
    lists: tuple[str, ...] = ()

    def all_pictures(self) -> Iterator[str]:
        """Yield the paths of the pictures here and below."""
        yield from (os.path.join(self.path, name) for name in self.pictures)  # noqa: PTH118
        for folder in self.folders:
            yield from folder.all_pictures()

    def all_lists(self) -> Iterator[str]:
        """Yield the paths of the lists here and below."""
        yield from (os.path.join(self.path, name) for name in self.lists)  # noqa: PTH118
        for folder in self.folders:
            yield from folder.all_lists()

    @property
    def role(self) -> Split | None:
        """The split that its name stands for, unless pictures directly inside make it a class of that name."""
        return ROLES.get(self.name.lower()) if self.folders or not self.pictures else None


def list_folder(folder: Path, group_by: str | None = None, aside: Found | None = None) -> Listing:
    """Find classes, splits and files below `folder`, and say of every other file why it is not used.

    Pictures are recognised by suffix, or by content where the suffix is not one of pictures. Those in sub-folders of a
    class belong to it. A `metadata.csv` or `metadata.jsonl` with a column of classes decides these instead of folders.

    Args:
        folder: A directory in one of the `LAYOUTS`.
        group_by: What keeps files together, where the test split is a part of the training images and where images are
            left out for choices: `folder`, or a regular expression that is searched for in the path below `folder`,
            by its match or the first group of it.
        aside: What of the data is not in the folder, to be set aside with its reason.

    Returns:
        The classes in alphabetical order. Without test images the validation images are the test split; without these
        a part of the training images is.

    Raises:
        DataError: If `folder` is missing, a file, empty, unreadable or in no known layout, or if two class folders
            have the same name up to case, `-`, `_` and blanks, if `group_by` is not a regular expression, or if it is
            an export for detection or of several labels a picture.
    """
    group = None if group_by is None else grouping(group_by, str(folder))
    if not folder.exists():
        raise DataError(f"{folder} does not exist; give a directory with the layout {LAYOUTS}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; give a directory with the layout {LAYOUTS}")
    aside = {} if aside is None else aside
    try:
        root = _walk(str(folder), folder.name, aside, frozenset(), set())
        root = _without_second_ways(root, set(_own(root)), aside)
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error}; check its permissions") from error
    except RecursionError as error:
        raise DataError(f"{folder} has folders inside folders, hundreds deep; give the one with the classes") from error
    _refuse_foreign(aside)
    if not root.folders and not root.pictures:
        raise DataError(_no_images(folder, aside))
    tables = [table for path in root.all_lists() if (table := read_table(Path(path))) is not None]
    if tables:
        listing = _by_tables(root, tables, aside, group)
    else:
        aside.setdefault((NOT_PICTURES, False), []).extend(root.all_lists())
        _name_lists(aside)
        inner = _unwrapped(root, aside)
        listing = _interpret(inner, {why: files for why, files in aside.items() if files}, group)
        listing = replace(listing, notes=(*listing.notes, *_merged(listing)))
    if not any(listing.used(split) for split in ("train", "test")):
        raise DataError(_no_images(folder, aside))
    return listing


def list_classes(folder: Path, ignore: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the sorted image files of every class folder in `folder`, with those in sub-folders."""
    root = _walk(str(folder), folder.name, {}, frozenset(), set())
    return {each.name: tuple(sorted(each.all_pictures())) for each in root.folders if each.name not in ignore}


def unlabelled(folder: Path) -> tuple[str, ...]:
    """Return the paths of all pictures in a directory and in those below it.

    Raises:
        DataError: there is no such directory, or it holds no picture.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory; give one that holds pictures")
    if not (found := tuple(_walk(str(folder), folder.name, {}, frozenset(), set()).all_pictures())):
        raise DataError(f"{folder} holds no pictures; give a directory that does")
    return found


def _walk(path: str, name: str, aside: Found, above: frozenset[Identity], linked: set[Identity]) -> _Folder:
    """Read a folder and those below it; what is neither a picture nor a folder goes to `aside`.

    A folder is followed by one link only: a few folders with two links each would else hold millions.
    """
    identity = identity_of(os.stat(path))  # noqa: PTH116
    if identity in above:
        aside.setdefault(("links to a folder above them", False), []).append(path)
        return _Folder(path, name, identity)
    pictures: list[str] = []
    folders: list[str] = []
    lists: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if _leads(entry.is_dir) and not _is_hidden(entry.name):
                if entry.is_symlink() and (target := identity_of(entry.stat())) not in above:
                    if target in linked:
                        aside.setdefault(("links to a folder that another link leads to", True), []).append(entry.path)
                        continue
                    linked.add(target)
                folders.append(entry.name)
            elif (why := _why_not(entry)) is None:
                pictures.append(entry.name)
            elif why[0] == NOT_PICTURES and entry.name.lower() in METADATA:
                lists.append(entry.name)
            else:
                aside.setdefault(why, []).append(entry.path)
    inner = (_walk(os.path.join(path, each), each, aside, above | {identity}, linked) for each in sorted(folders))  # noqa: PTH118
    link = bool(above) and os.path.islink(path)  # noqa: PTH114
    return _Folder(path, name, identity, link, tuple(sorted(pictures)), tuple(inner), tuple(sorted(lists)))


def _without_second_ways(folder: _Folder, own: set[Identity], aside: Found) -> _Folder:
    """Return a folder without links that lead to one that is in the data as well."""
    kept = []
    for each in folder.folders:
        if each.link and each.identity in own:
            aside.setdefault(("links to a folder of the data", False), []).append(each.path)
        else:
            kept.append(_without_second_ways(each, own, aside))
    return replace(folder, folders=tuple(kept))


def _own(folder: _Folder) -> Iterator[Identity]:
    """Yield what is reached without a link."""
    yield folder.identity
    for each in folder.folders:
        if not each.link:
            yield from _own(each)


def identity_of(status: os.stat_result) -> Identity:
    """Return what a file or folder is known by under all its paths."""
    return status.st_dev, status.st_ino


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _leads(to: Callable[[], bool]) -> bool:
    """Return whether a link leads to what is asked for; one to itself leads nowhere."""
    try:
        return to()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _why_not(entry: os.DirEntry[str]) -> tuple[str, bool] | None:
    """Return why a file is not read and whether it may be a picture; None for a picture that is."""
    if _is_hidden(entry.name):
        return "hidden", False
    if not _leads(entry.is_file):
        return ("links that lead to no file", True) if entry.is_symlink() else ("neither files nor folders", False)
    return why_not_picture(entry.path)


def _unwrapped(root: _Folder, aside: Found) -> _Folder:
    """Return the folder that holds the splits or classes: archives often unpack to folders inside folders.

    Pictures beside a folder on the way go to `aside`.
    """
    above = inner = root
    passed = []
    while len(inner.folders) == 1 and inner.folders[0].role is None:
        passed.append(inner)
        above, inner = inner, inner.folders[0]
    if inner.pictures or not inner.folders:  # one class
        return root
    splits = [each for each in inner.folders if each.name.lower() in ROLES]
    if splits and not any(each.folders for each in splits):  # a class with splits inside
        return above
    for each in passed:
        _set_aside_pictures(each, aside)
    return inner


def _interpret(root: _Folder, aside: Found, group: Group | None) -> Listing:
    """Return the listing of a folder; its pictures that belong to no class go to `aside`."""
    splits = _splits(root)
    others = [each for each in root.folders if each not in splits.values()]
    found: dict[Split, dict[str, list[str]]] = {"train": {}, "val": {}, "test": {}}
    val = ""
    for split, folder in splits.items():
        val = folder.name if split == "val" else val
        _set_aside_pictures(folder, aside)
        found[split] = _checked(folder, folder.folders)
    if "train" in splits or (splits and not others):
        _set_aside_others(root, splits, aside)
    else:
        _set_aside_pictures(root, aside)
        pictures_of = _checked(root, others)
        inside = [_by_role(each, [inner for inner in each.folders if inner.name.lower() in ROLES]) for each in others]
        divided = all(inside)
        for folder, inner in zip(others, inside, strict=True):
            name = folder.name
            if splits or not ("train" in inner or divided):
                found["train"][name] = pictures_of[name]
                continue
            for split, each in inner.items():
                val = each.name if split == "val" else val
                found[split][name] = list(each.all_pictures())
            if "train" in inner:
                _set_aside_others(folder, inner, aside)
            else:
                away = {path for each in inner.values() for path in each.all_pictures()}
                found["train"][name] = [path for path in pictures_of[name] if path not in away]
    return arranged(found, aside, group, root.path, val)


def _merged(listing: Listing) -> list[str]:
    """Return a note if classes have pictures in folders of theirs."""
    assert isinstance(listing.reader, FileReader)
    deep: dict[str, str] = {}
    for files in listing.reader.files.values():
        for name, paths in zip(listing.classes, files, strict=True):
            for parent in sorted({os.path.dirname(path) for path in paths}):  # noqa: PTH120
                folders = parent.split(os.sep)  # noqa: PTH206
                while folders[-1].lower() in ROLES and folders[-1] != name:
                    folders.pop()
                if canonical(folders[-1]) != canonical(name):
                    deep.setdefault(name, folders[-1])
    if not deep:
        return []
    name, inner = next(iter(deep.items()))
    return [
        f"images in folders inside a class are of that class ({len(deep)} of {len(listing.classes)} classes), such as "
        f"those in {inner} of {name}; if {inner} is a class, give the folder that holds it"
    ]


def _set_aside_others(folder: _Folder, splits: Mapping[Split, _Folder], aside: Found) -> None:
    """Set the pictures of a folder aside that are in none of its splits."""
    _set_aside_pictures(folder, aside)
    for each in folder.folders:
        if each not in splits.values() and (pictures := list(each.all_pictures())):
            names = ", ".join(split.name for split in splits.values())
            why = "has no class folders" if each.name.lower() in ROLES else f"is not one of the splits {names}"
            aside.setdefault((f"in {each.name}, which {why}", True), []).extend(pictures)


def _set_aside_pictures(folder: _Folder, aside: Found) -> None:
    """Set the pictures directly inside a folder aside, whose class is not known."""
    if folder.pictures:
        inside = (os.path.join(folder.path, name) for name in folder.pictures)  # noqa: PTH118
        aside.setdefault(("beside the folders, so of no class", True), []).extend(inside)


def _by_tables(root: _Folder, tables: Sequence[Table], aside: Found, group: Group | None) -> Listing:
    """Return the listing of a folder whose lists name the classes of its pictures; others go to `aside`."""
    pictures = set(root.all_pictures())
    names = sorted({table.path.name for table in tables})
    aside.setdefault(("lists of the pictures", False), []).extend(str(table.path) for table in tables)
    if unread := sorted({*root.all_lists()} - {str(table.path) for table in tables}):
        aside.setdefault((f"{NOT_PICTURES}, without a column of classes", True), []).extend(unread)

    away = {path for files in aside.values() for path in files}
    named = set()

    def rows() -> Iterator[Row]:
        for row in (row for table in tables for row in table.rows()):
            if row.path in away:  # set aside already
                continue
            named.add(row.path)
            below = os.path.dirname(row.path).removeprefix(root.path)  # noqa: PTH120
            split = next((part for part in below.split(os.sep) if part.lower() in ROLES), "")  # noqa: PTH206
            yield row._replace(split=row.split or split)

    @cache
    def spellings() -> set[str]:
        return set(map(folded, pictures))

    # Only pictures inside the folder: what is given is the folder, and it may be someone else's.
    def why_not(path: str) -> tuple[str, bool] | None:
        return None if path in pictures else (MISSPELT if folded(path) in spellings() else MISSING, True)

    listing = listed(rows(), aside, group, root.path, why_not)
    if not (unlisted := pictures - named):
        return listing
    others = Aside(f"not listed in {' or '.join(names)}", tuple(sorted(unlisted)), pictures=True)
    return replace(listing, aside=(*listing.aside, others))


def _splits(root: _Folder) -> dict[Split, _Folder]:
    """Return the folders of splits.

    A folder called `test` beside class folders, without `train`, is a split if it holds one of the same classes.

    Raises:
        DataError: two folders stand for one split.
    """
    candidates = [each for each in root.folders if each.role is not None]
    splits = _by_role(root, candidates)
    others = [each for each in root.folders if each not in candidates]
    if "train" in splits or not others:
        return splits
    known = {canonical(each.name) for each in others}
    return {split: each for split, each in splits.items() if known & {canonical(inner.name) for inner in each.folders}}


def _by_role(root: _Folder, candidates: Sequence[_Folder]) -> dict[Split, _Folder]:
    splits: dict[Split, list[_Folder]] = {}
    for each in candidates:
        splits.setdefault(ROLES[each.name.lower()], []).append(each)
    for folders in splits.values():
        if len(folders) > 1:
            names = " and ".join(each.name for each in folders)
            raise DataError(f"{root.path} has {names}, which mean the same split; keep one of them")
    return {split: splits[split][0] for split in SPLITS if split in splits}


def _checked(parent: _Folder, folders: Sequence[_Folder]) -> dict[str, list[str]]:
    """Return the pictures by class.

    Raises:
        DataError: there is no class folder, or several for one class name.
    """
    if not folders:
        loose = len(parent.pictures)
        found = f"{loose} images but no class folder" if loose else "no class folder"
        raise DataError(f"{parent.path} has {found}; the layout must be {LAYOUTS}")
    if same := clashes(each.name for each in folders):
        raise DataError(f"{parent.path} has several folders for one class name: {same}; merge or rename them")
    names = {canonical(each.name) for each in folders}
    for exported, kind in _EXPORTS:
        if exported <= names:
            raise DataError(
                f"{parent.path} has the folders {' and '.join(sorted(exported))}, as exports of boxes for detection do "
                f"({kind}); one class a picture is required: {LAYOUTS}"
            )
    filled = [each.name for each in folders if next(each.all_pictures(), None) is not None]
    if len(filled) > 1 and all(name.lower().rstrip("0123456789_-") in ROLES for name in filled):
        raise DataError(
            f"{' and '.join(filled)} of {parent.path} hold images but no class folders, so that their classes are not "
            f"known; the layout must be {LAYOUTS}, or give a list of paths and classes"
        )
    return {each.name: list(each.all_pictures()) for each in folders}


def _refuse_foreign(aside: Found) -> None:
    """Refuse an export for another purpose, by the files that it is known by.

    Raises:
        DataError: there is such a file.
    """
    for path in aside.get((NOT_PICTURES, False), ()):
        if (what := _FOREIGN.get(os.path.basename(path))) is not None:  # noqa: PTH119
            raise DataError(f"{path} is of {what}")


def _name_lists(aside: Found) -> None:
    """Name lists of pictures and classes that are not used, as their names are not those of `METADATA`."""
    others = aside.get((NOT_PICTURES, False), [])
    lists = [path for path in others if path.lower().endswith((".csv", ".tsv"))][:MOST_LISTS]
    if lists := [path for path in lists if _is_list(Path(path))]:
        aside[NOT_PICTURES, False] = [path for path in others if path not in lists]
        aside.setdefault((_LIST, True), []).extend(lists)


def _is_list(file: Path) -> bool:
    try:
        return read_table(file) is not None
    except DataError:
        return False


def _no_images(folder: Path, aside: Found) -> str:
    return (
        f"{folder} has no images{unused(aside)}; the layout must be {LAYOUTS}, and images are files such as "
        f"{' '.join(sorted(s for s in FORMAT_OF if why_unread(s) is None))}"
    )
