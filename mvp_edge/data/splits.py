"""All splits of a data set in memory, with copies of a picture on one side where the test split is ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mvp_edge.core.errors import DataError
from mvp_edge.core.progress import Progress
from mvp_edge.data.copies import Copies, Prints, joined, prints, trusted_copies
from mvp_edge.data.images import ImageSet, InMemory, Size
from mvp_edge.data.listing import SPLITS, FileReader, Split, by_name, split_files
from mvp_edge.data.source import DataSource
from mvp_edge.names.tasks import canonical

# Size at which copies are looked for to divide images: at any input size the test images are the same. Few images are
# read at the input size of the largest network, and may stay in memory for it: up to 300 MB.
FEW, FEW_AT, MANY_AT = 2000, (224, 224), (64, 64)


@dataclass(frozen=True, eq=False)
class Splits:
    """Images of some classes.

    Attributes:
        images: By split; `train` and `test` are there, `val` if the data have it for all of the classes. Their groups
            are copies, joined with those that were asked for.
        prints: What is compared of them.
        groups: `(N,)` for each split: pictures that are copies of each other have the same number.
        alike: Whether many pictures look so much alike that only exact copies count.
    """

    images: dict[Split, ImageSet]
    prints: dict[Split, Prints]
    groups: dict[Split, np.ndarray]
    alike: bool = False

    def copied(self, split: Split, of: Sequence[Split]) -> np.ndarray:
        """Return which images `(N,)` of a split are copies of images of other splits."""
        return np.isin(self.groups[split], np.concatenate([self.groups[each] for each in of if each in self.groups]))


def divided(source: DataSource, classes: Sequence[str], progress: Progress, *, keep: bool = False) -> DataSource:
    """Return data with all copies of a picture on one side, if their test split was chosen by file name.

    Groups of copies are divided as a whole, by the names of their first files. Without copies the division stays as it
    is.

    Args:
        source: The data.
        classes: Names; images of other classes stay where they are.
        progress: Progress reporter.
        keep: Whether the images stay in memory, if they are few, for reading them again at the same size.

    Raises:
        DataError: As `DataSource.load`.
    """
    listing = source.listing
    if listing.carved != "by name" or not isinstance(listing.reader, FileReader):
        return source
    tested = source.covered(classes, "test")
    few = source.count(classes, "train") + (source.count(tested, "test") if tested else 0) <= FEW
    size = FEW_AT if few else MANY_AT
    train, test = (_read(source, classes, split, size, progress, "Comparing") for split in ("train", "test"))
    files, labels = (*train.files, *test.files), torch.cat([train.labels, test.labels])
    groups, same = trusted_copies(_concatenated([prints(each.images) for each in (train, test)]), labels.numpy())
    reader, notes = listing.reader, listing.notes
    if np.isin(groups[len(train) :], groups[: len(train)]).any():
        sides: dict[str, Split] = dict.fromkeys(test.skipped, "train")
        sides |= _sides(files, labels, groups)
        # What cannot be read goes where most images are, so that no test split is left with nothing else.
        files_of, moved = _moved(listing.classes, reader.files, classes, sides)
        reader = FileReader(files_of)
        notes += (f"{moved} images changed sides, so that copies of a picture, such as bursts, are on one side",)
    if few and keep:
        reader = replace(reader, decode=InMemory((train, test)).decode)
    copies = Copies(dict(zip(files, groups.tolist(), strict=True)), same)
    listing = replace(listing, reader=reader, notes=notes, carved="by copies", copies=copies)
    return DataSource(source.name, source.location, listing)


def load_splits(source: DataSource, classes: Sequence[str], size: Size, progress: Progress) -> Splits:
    """Read all images of some classes and find copies.

    A test split that the tool made is first divided by `divided`; classes may have no images in it.

    Args:
        source: The data.
        classes: Names.
        size: Height and width.
        progress: Progress reporter.

    Raises:
        DataError: As `DataSource.load`.
    """
    source = divided(source, classes, progress)
    images: dict[Split, ImageSet] = {}
    for split in SPLITS:
        if split != "val" or len(source.covered(classes, split)) == len(classes):
            images[split] = _read(source, classes, split, size, progress)
    with progress.stage("Comparing images"):
        seen: dict[Split, Prints] = {split: prints(each.images) for split, each in images.items()}
        every, same = _copies(source, list(images.values()), list(seen.values()))
    ends = np.cumsum([len(each) for each in images.values()])[:-1]
    copies = dict(zip(images, np.split(every, ends), strict=True))
    kept: dict[Split, ImageSet] = {split: _in_groups(each, copies[split], source) for split, each in images.items()}
    return Splits(kept, seen, copies, same)


def grouped(images: ImageSet, source: DataSource) -> ImageSet:
    """Return images of a source with their groups: copies of a picture, joined with those that were asked for."""
    return _in_groups(images, _copies(source, [images], None)[0], source)


def load_test(source: DataSource, classes: Sequence[str], size: Size, progress: Progress) -> tuple[ImageSet, int]:
    """Return the test images of some classes, as `load_splits` divides them, without copies of images of other splits.

    Copies are not looked for unless the data have training images of all these classes.

    Args:
        source: The data.
        classes: Names.
        size: Height and width.
        progress: Progress reporter.

    Returns:
        The images, and how many were left out.

    Raises:
        DataError: As `DataSource.load`; or there is no image to test on that is not a copy.
    """
    if len(source.covered(classes, "train")) < len(classes):
        with progress.stage("Reading test images", source.count(classes, "test")) as stage:
            return source.load(classes, "test", size, stage.advance), 0
    found = load_splits(source, classes, size, progress)
    copied = found.copied("test", ("train", "val"))
    own = found.images["test"].subset(np.flatnonzero(~copied))
    if not len(own):
        raise DataError(
            f"{source.place} has no images to test on: each class is one image, or all are copies of other images; "
            "add some"
        )
    return own, int(copied.sum())


def _read(
    source: DataSource, classes: Sequence[str], split: Split, size: Size, progress: Progress, verb: str = "Reading"
) -> ImageSet:
    """Return the images of a split, with labels that are positions in `classes`; of a test split of ours maybe none."""
    some = tuple(classes)
    if split == "test" and source.listing.carved:  # then a class may be too small to have test images
        some = source.covered(classes, split)
    with progress.stage(f"{verb} {split} images", source.count(some, split) if some else 0) as stage:
        if not some:
            nothing = torch.empty((0, 3, *size), dtype=torch.uint8)
            return ImageSet(nothing, torch.empty(0, dtype=torch.int64), tuple(classes))
        images = source.load(some, split, size, stage.advance)
    places = torch.tensor([classes.index(name) for name in images.classes])
    return replace(images, labels=places[images.labels], classes=tuple(classes))


def _sides(files: Sequence[str], labels: torch.Tensor, groups: np.ndarray) -> dict[str, Split]:
    """Return the side of each file when groups of copies are divided as a whole."""
    first: dict[int, str] = {}
    for path, group in zip(files, groups.tolist(), strict=True):
        first[group] = min(first.get(group, path), path, key=by_name)
    leader = {path: first[group] for path, group in zip(files, groups.tolist(), strict=True)}
    number = dict(zip(files, labels.tolist(), strict=True))
    chosen = set(split_files(files, lambda path: by_name(leader[path]), number.__getitem__)[1])
    return {path: "test" if path in chosen else "train" for path in files}


def _moved(
    names: Sequence[str], files: Mapping[Split, Sequence[Sequence[str]]], classes: Sequence[str],
    sides: Mapping[str, Split],
) -> tuple[Mapping[Split, Sequence[Sequence[str]]], int]:  # fmt: skip
    """Return the files by side and class when those of some classes are on these sides, and how many images moved."""
    found: dict[Split, list[Sequence[str]]] = {split: list(paths) for split, paths in files.items()}
    wanted, moved = set(map(canonical, classes)), 0
    for index, name in enumerate(names):
        if canonical(name) in wanted:
            was: list[tuple[str, Split]] = [(p, split) for split in ("train", "test") for p in files[split][index]]
            now = [(path, sides.get(path, split)) for path, split in was]
            moved += sum(one != other for one, other in zip(was, now, strict=True))
            for split in ("train", "test"):
                found[split][index] = tuple(sorted(path for path, side in now if side == split))
    return found, moved


def _copies(source: DataSource, sets: Sequence[ImageSet], seen: Sequence[Prints] | None) -> tuple[np.ndarray, bool]:
    """Return groups of copies `(N,)` among all images of some sets, and whether only exact copies count.

    Where copies were looked for before, as in `divided`, the answer does not depend on the size of the images.
    """
    known, files = source.listing.copies, [path for images in sets for path in images.files]
    if known is not None and all(path in known.group for path in files):
        return np.array([known.group[path] for path in files], int), known.alike
    labels = np.concatenate([images.labels.numpy() for images in sets])
    return trusted_copies(_concatenated(seen or [prints(images.images) for images in sets]), labels)


def _in_groups(images: ImageSet, copies: np.ndarray, source: DataSource) -> ImageSet:
    """Return images with their groups: copies, and files whose groups `--group-by` names are joined."""
    groups, asked = copies, source.listing.groups
    if asked and images.files:
        groups = joined(copies, np.unique([asked[path] for path in images.files], return_inverse=True)[1])
    return replace(images, groups=torch.from_numpy(groups.astype(np.int64)))


def _concatenated(parts: Sequence[Prints]) -> Prints:
    return Prints(np.concatenate([each.hashes for each in parts]), np.concatenate([each.thumbnails for each in parts]))
