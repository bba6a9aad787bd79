"""All splits of a data set in memory, with copies of a picture on one side where the test split is ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mvp_edge.core.errors import DataError
from mvp_edge.core.progress import Progress
from mvp_edge.data.copies import Prints, prints, trusted_copies
from mvp_edge.data.images import ImageSet, Size
from mvp_edge.data.listing import SPLITS, Split, by_name, split_files
from mvp_edge.data.source import DataSource


@dataclass(frozen=True, eq=False)
class Splits:
    """Images of some classes.

    Attributes:
        images: By split; `train` and `test` are there, `val` if the data have it for all of the classes.
        prints: What is compared of them.
        groups: `(N,)` for each split: pictures that are copies of each other have the same number.
        alike: Whether many pictures look so much alike that only exact copies count.
        moved: How many images changed sides, so that copies are on one side.
    """

    images: dict[Split, ImageSet]
    prints: dict[Split, Prints]
    groups: dict[Split, np.ndarray]
    alike: bool = False
    moved: int = 0

    @property
    def copied(self) -> np.ndarray:
        """Which test images `(N,)` are copies of training or validation images."""
        seen = [groups for split, groups in self.groups.items() if split != "test"]
        return np.isin(self.groups["test"], np.concatenate(seen))


def load_splits(source: DataSource, classes: Sequence[str], size: Size, progress: Progress) -> Splits:
    """Read all images of some classes, and find copies.

    If the test split was chosen by file name, groups of copies are then divided as a whole, by the names of their first
    files. Without copies the division stays as it is. Where the test split is ours, classes may be too small to have
    images in it.

    Args:
        source: The data.
        classes: Names.
        size: Height and width.
        progress: Progress reporter.

    Raises:
        DataError: As `DataSource.load`.
    """
    images: dict[Split, ImageSet] = {}
    for split in SPLITS:
        some = source.covered(classes, split)
        if split == "val" and len(some) < len(classes):
            continue
        if split != "test" or not source.listing.carved:  # else a class may be too small to have test images
            some = tuple(classes)
        with progress.stage(f"Reading {split} images", source.count(some, split) if some else 0) as stage:
            if some:
                images[split] = _among(classes, source.load(some, split, size, stage.advance))
            else:
                images[split] = replace(images["train"].subset([]), skipped=())
    with progress.stage("Comparing images"):
        seen: dict[Split, Prints] = {split: prints(each.images) for split, each in images.items()}
        labels = np.concatenate([each.labels.numpy() for each in images.values()])
        every, same = trusted_copies(_joined(list(seen.values())), labels)
    ends = np.cumsum([len(each) for each in images.values()])[:-1]
    found = Splits(images, seen, dict(zip(images, np.split(every, ends), strict=True)), same)
    return _together(found) if source.listing.carved == "by name" else found


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
    own = found.images["test"].subset(np.flatnonzero(~found.copied))
    if not len(own):
        raise DataError(
            f"{source.place} has no images to test on: each class is one image, or all are copies of other images; "
            "add some"
        )
    return own, int(found.copied.sum())


def _among(classes: Sequence[str], images: ImageSet) -> ImageSet:
    """Return images of some classes with labels that are positions in all classes."""
    places = torch.tensor([classes.index(name) for name in images.classes])
    return replace(images, labels=places[images.labels], classes=tuple(classes))


def _together(given: Splits) -> Splits:
    """Divide anew where copies of a picture are on both sides."""
    train, test = given.images["train"], given.images["test"]
    if not np.isin(given.groups["test"], given.groups["train"]).any():
        return given
    files, labels = (*train.files, *test.files), torch.cat([train.labels, test.labels])
    groups = np.concatenate([given.groups["train"], given.groups["test"]])
    first: dict[int, str] = {}
    for path, group in zip(files, groups.tolist(), strict=True):
        first[group] = min(first.get(group, path), path, key=by_name)
    leader = {path: first[group] for path, group in zip(files, groups.tolist(), strict=True)}
    number = dict(zip(files, labels.tolist(), strict=True))
    chosen = set(split_files(files, lambda path: by_name(leader[path]), number.__getitem__)[1])
    is_test = np.array([path in chosen for path in files])
    order = np.array(sorted(range(len(files)), key=lambda i: (int(labels[i]), files[i])), dtype=np.int64)
    both = replace(
        train, images=torch.cat([train.images, test.images]), labels=labels, files=files,
        skipped=(*train.skipped, *test.skipped), origins=(*train.origins, *test.origins),
    )  # fmt: skip
    seen = _joined([given.prints["train"], given.prints["test"]])
    rows: dict[Split, np.ndarray] = {"train": order[~is_test[order]], "test": order[is_test[order]]}
    return Splits(
        {split: replace(both.subset(index), skipped=given.images[split].skipped) for split, index in rows.items()},
        {split: seen.at(index) for split, index in rows.items()},
        {split: groups[index] for split, index in rows.items()},
        given.alike,
        int((is_test != (np.arange(len(files)) >= len(train))).sum()),
    )


def _joined(parts: Sequence[Prints]) -> Prints:
    return Prints(np.concatenate([each.hashes for each in parts]), np.concatenate([each.thumbnails for each in parts]))
