"""Image folders: which class and split every file belongs to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mvp_edge.core.errors import DataError
from mvp_edge.data.formats import FORMAT_OF, sniff, why_unread
from mvp_edge.data.listing import SPLITS, Aside, FileReader, Group, Listing, Split, divide, grouping
from mvp_edge.names.tasks import canonical

LAYOUTS = "DIR/train/CLASS/* with DIR/test/CLASS/* (or val), DIR/CLASS/{train,test}/*, or DIR/CLASS/*"

ROLES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Split by the name of its folder in lower case."""

_NOT_PICTURES = "not pictures"
_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})


@dataclass(frozen=True, eq=False)
class _Folder:
    """A folder that was read: the names of its pictures, and its folders; both sorted."""

    path: str
    name: str
    pictures: tuple[str, ...] = ()
    folders: tuple[_Folder, ...] = ()

    def all_pictures(self) -> Iterator[str]:
        """Yield the paths of the pictures here and below."""
        yield from (os.path.join(self.path, name) for name in self.pictures)  # noqa: PTH118
        for folder in self.folders:
            yield from folder.all_pictures()

    @property
    def role(self) -> Split | None:
        """The split that its name stands for, unless pictures directly inside make it a class of that name."""
        return ROLES.get(self.name.lower()) if self.folders or not self.pictures else None


Found = dict[tuple[str, bool], list[str]]
"""Paths set aside, by reason and whether they may be pictures."""


def list_folder(folder: Path, group_by: str | None = None) -> Listing:
    """Find classes, splits and files below `folder`, and say of every other file why it is not used.

    Pictures are recognised by suffix, or by content where the suffix is not one of pictures. Those in sub-folders of a
    class belong to it.

    Args:
        folder: A directory in one of the `LAYOUTS`.
        group_by: What keeps files together where the test split is a part of the training images: `folder`, or a
            regular expression that is searched for in the path; files with the same match, or the same first group of
            it, are on one side.

    Returns:
        The classes in alphabetical order. Without test images the validation images are the test split; without these
        a part of the training images is.

    Raises:
        DataError: If `folder` is missing, a file, empty, unreadable or in no known layout, or if two class folders
            have the same name up to case, `-`, `_` and blanks, or if `group_by` is not a regular expression.
    """
    group = None if group_by is None else grouping(group_by)
    if not folder.exists():
        raise DataError(f"{folder} does not exist; give a directory with the layout {LAYOUTS}")
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; give a directory with the layout {LAYOUTS}")
    aside: Found = {}
    try:
        root = _walk(str(folder), folder.name, aside, frozenset())
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error}; check its permissions") from error
    listing = _interpret(_unwrapped(root), aside, group)
    if not any(listing.used(split) for split in ("train", "test")):
        raise DataError(_no_images(folder, aside))
    return listing


def list_classes(folder: Path, ignore: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Return the sorted image files of every class folder in `folder`, with those in sub-folders."""
    root = _walk(str(folder), folder.name, {}, frozenset())
    return {each.name: tuple(sorted(each.all_pictures())) for each in root.folders if each.name not in ignore}


def _walk(path: str, name: str, aside: Found, above: frozenset[tuple[int, int]]) -> _Folder:
    """Read a folder and those below it; what is neither a picture nor a folder goes to `aside`."""
    status = os.stat(path)  # noqa: PTH116
    identity = status.st_dev, status.st_ino
    if identity in above:
        aside.setdefault(("links to a folder above them", False), []).append(path)
        return _Folder(path, name)
    pictures: list[str] = []
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith((".", "__")):
                folders.append(entry.name)
            elif (why := _why_not(entry)) is None:
                pictures.append(entry.name)
            else:
                aside.setdefault(why, []).append(entry.path)
    inner = (_walk(os.path.join(path, each), each, aside, above | {identity}) for each in sorted(folders))  # noqa: PTH118
    return _Folder(path, name, tuple(sorted(pictures)), tuple(inner))


def _why_not(entry: os.DirEntry[str]) -> tuple[str, bool] | None:
    """Return why a file is not read and whether it may be a picture; None for a picture that is."""
    if entry.name.startswith(".") or entry.name.lower() in _SYSTEM or entry.is_dir():
        return "hidden", False
    # Not Path.suffix: tens of thousands of Path objects take longer to make than the directory to read.
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if not entry.is_file():
        return ("broken links", True) if entry.is_symlink() else ("neither files nor folders", False)
    if (why := why_unread(suffix)) is not None:
        return why, True
    if suffix in FORMAT_OF:
        return None
    try:
        return None if sniff(entry.path) else (_NOT_PICTURES, False)
    except OSError as error:
        return f"cannot be opened ({error.strerror})", True


def _unwrapped(root: _Folder) -> _Folder:
    """Return the folder that holds the splits or classes: archives often unpack to one folder that holds all."""
    while len(root.folders) == 1 and not root.pictures:
        inner = root.folders[0]
        splits = [each for each in inner.folders if each.name.lower() in ROLES]
        if inner.role is not None or inner.pictures or (len(inner.folders) < 2 and not splits):
            break
        if splits and not any(each.folders for each in splits):  # a class with splits inside
            break
        root = inner
    return root


def _interpret(root: _Folder, aside: Found, group: Group | None) -> Listing:
    """Return the listing of a folder; its pictures that belong to no class go to `aside`."""
    splits = _splits(root)
    others = [each for each in root.folders if each not in splits.values()]
    found: dict[Split, dict[str, list[str]]] = {"train": {}, "val": {}, "test": {}}
    for split, folder in splits.items():
        _set_aside_pictures(folder, aside)
        found[split] = _checked(folder, folder.folders)
    if "train" in splits or (splits and not others):
        _set_aside_others(root, splits, aside)
    else:
        _set_aside_pictures(root, aside)
        for name, pictures in _checked(root, others).items():
            folder = next(each for each in others if each.name == name)
            inner = _by_role(folder, [each for each in folder.folders if each.name.lower() in ROLES])
            if "train" not in inner or splits:
                found["train"][name] = pictures
                continue
            for split, each in inner.items():
                found[split][name] = list(each.all_pictures())
            _set_aside_others(folder, inner, aside)
    return _listing(root, found, splits, aside, group)


def _set_aside_others(folder: _Folder, splits: Mapping[Split, _Folder], aside: Found) -> None:
    """Set the pictures of a folder aside that are in none of its splits."""
    _set_aside_pictures(folder, aside)
    for each in folder.folders:
        if each not in splits.values() and (pictures := list(each.all_pictures())):
            names = ", ".join(split.name for split in splits.values())
            aside.setdefault((f"in {each.name}, which is not one of the splits {names}", True), []).extend(pictures)


def _set_aside_pictures(folder: _Folder, aside: Found) -> None:
    """Set the pictures directly inside a folder aside, whose class is not known."""
    if folder.pictures:
        inside = (os.path.join(folder.path, name) for name in folder.pictures)  # noqa: PTH118
        aside.setdefault(("beside the folders, so of no class", True), []).extend(inside)


def _listing(
    root: _Folder,
    found: dict[Split, dict[str, list[str]]],
    splits: Mapping[Split, _Folder],
    aside: Found,
    group: Group | None,
) -> Listing:
    notes: list[str] = []
    if not found["test"] and found["val"]:
        found = {"train": found["train"], "val": {}, "test": found["val"]}
        name = splits["val"].name if "val" in splits else "validation"
        notes.append(f"no test split in the data: {name} is used for testing")
    away = tuple(
        Aside(_with_suffixes(reason, files) if reason == _NOT_PICTURES else reason, tuple(sorted(files)), pictures)
        for (reason, pictures), files in sorted(aside.items(), key=lambda kv: -len(kv[1]))
    )
    if not found["test"] and not found["val"]:
        return divide({name: found["train"][name] for name in sorted(found["train"])}, away, group)
    if group is not None:
        notes.append("--group-by has no effect: the data have a test split")
    if "train" not in splits and not found["train"]:
        notes.append(f"{root.path} has no train folder; its images are only used for testing")
    names = {canonical(name): name for split in ("val", "test", "train") for name in found[split]}
    ordered = sorted(names, key=lambda key: names[key])
    files: dict[Split, list[tuple[str, ...]]] = {}
    for split, classes in found.items():
        by_key = {canonical(name): paths for name, paths in classes.items()}
        files[split] = [tuple(sorted(by_key.get(key, ()))) for key in ordered]
    return Listing(tuple(names[key] for key in ordered), FileReader(files), tuple(notes), away)


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
    same: dict[str, list[str]] = {}
    for each in folders:
        same.setdefault(canonical(each.name), []).append(each.name)
    clashes = [" = ".join(names) for names in same.values() if len(names) > 1]
    if clashes:
        raise DataError(
            f"{parent.path} has several folders for one class name: {'; '.join(clashes)}; merge or rename them"
        )
    return {each.name: list(each.all_pictures()) for each in folders}


def _with_suffixes(reason: str, files: Sequence[str]) -> str:
    """Return a reason with the suffixes of the files, the most frequent first."""
    counts = Counter(os.path.splitext(path)[1].lower() or "no suffix" for path in files)  # noqa: PTH122
    shown = ", ".join(f"{suffix} {count:,}" for suffix, count in counts.most_common(4))
    return f"{reason} ({shown}{', ...' if len(counts) > 4 else ''})"


def _no_images(folder: Path, aside: Found) -> str:
    away = [f"{len(files):,} {reason}" for (reason, pictures), files in aside.items() if pictures]
    seen = f"; not used: {', '.join(away)}" if away else ""
    return (
        f"{folder} has no images{seen}; the layout must be {LAYOUTS}, and images are files such as "
        f"{' '.join(sorted(s for s in FORMAT_OF if why_unread(s) is None))}"
    )
