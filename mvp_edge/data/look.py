"""A look at a data set: counts by class and split, what is set aside, what cannot be read, copies, and leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvp_edge.core.progress import Progress
from mvp_edge.core.words import in_short
from mvp_edge.data.copies import NOTE, Prints, conflict_warnings, conflicts, prints, trusted_copies
from mvp_edge.data.images import Origin, Size
from mvp_edge.data.leaks import COMPARED, cross_validated, leaks, sample, thumbnail_warning
from mvp_edge.data.listing import SPLITS, UNREADABLE, Split, in_words
from mvp_edge.data.source import MAX_UNREADABLE, DataSource

SIDE = 64
SHOWN = 20


@dataclass(frozen=True, eq=False)
class Look:
    """What a data set holds.

    Attributes:
        summary: Files given, used and set aside, in one line.
        given: Number of files.
        classes: Number of images by class and split that can be read.
        aside: Number of files that are not used, by reason; those that cannot be read among them.
        unreadable: Path and reason of images that cannot be read.
        formats: Number of images by format.
        sizes: Width and height of the smallest, the median and the largest image by its number of pixels.
        copies: Number of images that are copies, or nearly, of an earlier one.
        copied: Pairs of such files, the first ones.
        coarse: Balanced accuracy in percent of a linear classifier on thumbnails of 8 x 8 pixels, by cross-validation;
            None with too few images.
        warnings: Notes for the user, leaks among them.
        samples: For each class some of its images, uint8 `(N, 3, 64, 64)`.
    """

    summary: str
    given: int
    classes: dict[str, dict[str, int]]
    aside: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]
    formats: dict[str, int]
    sizes: tuple[Size, ...]
    copies: int
    copied: tuple[tuple[str, str], ...]
    coarse: float | None
    warnings: tuple[str, ...]
    samples: dict[str, Tensor]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value, without images."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "samples"}


def look(source: DataSource, progress: Progress) -> Look:
    """Read all images of a data set once, in small, and return what it holds.

    All images of one class are in memory at a time, and `COMPARED` of each class and split.
    """
    listing = source.listing
    unreadable: list[tuple[str, str]] = []
    files: list[str] = []
    origins: list[Origin] = []
    seen: list[Prints] = []
    labels: list[np.ndarray] = []
    tested: list[np.ndarray] = []
    damaged = Counter[tuple[Split, int]]()
    samples: dict[str, Tensor] = {}
    with progress.stage("Reading images", sum(map(listing.used, SPLITS))) as stage:
        for index, name in enumerate(listing.classes):
            some = [torch.empty((0, 3, SIDE, SIDE), dtype=torch.uint8)]
            for split in SPLITS:
                if not listing.reader.count(split, index):
                    continue
                pixels = listing.reader.read(split, [index], (SIDE, SIDE), stage.advance)
                unreadable += pixels.failures
                damaged[split, index] += len(pixels.failures)
                files += pixels.files
                origins += pixels.origins
                seen.append(prints(pixels.images))
                labels.append(np.full(len(pixels.images), index))
                tested.append(np.full(len(pixels.images), split == "test"))
                if len(pixels.images):
                    some.append(pixels.images[sample(pixels.labels.numpy())])
            samples[name] = torch.cat(some)[:COMPARED].clone()
    with progress.stage("Comparing images"):
        every = Prints(
            np.concatenate([np.empty(0, np.uint64), *(each.hashes for each in seen)]),
            np.concatenate([*(each.thumbnails for each in seen)]) if seen else np.empty((0, 768), np.uint8),
        )
        of_image = np.concatenate([np.empty(0, int), *labels])
        groups, same = trusted_copies(every, of_image)
        _, first = np.unique(groups, return_index=True)
        again = np.setdiff1d(np.arange(len(groups)), first)
        pairs = [(files[i], files[first[groups[i]]]) for i in again[:SHOWN].tolist()] if files else []
        double = [(files[one], files[other]) for one, other in conflicts(groups, of_image)] if files else []
        is_test = np.concatenate([np.empty(0, bool), *tested])
        seen_before = np.flatnonzero(is_test & np.isin(groups, groups[~is_test]))
        coarse = cross_validated(every, of_image, groups)
        of_sample = np.repeat(np.arange(len(samples)), [len(each) for each in samples.values()])
        found = leaks(origins, of_image, torch.cat([*samples.values()]), of_sample, listing.classes)
    classes = {
        name: {split: count for split in SPLITS if (count := _count(source, split, index) - damaged[split, index])}
        for index, name in enumerate(listing.classes)
    }
    used = {split: sum(counts.get(split, 0) for counts in classes.values()) for split in SPLITS}
    aside = {each.reason: len(each.files) for each in listing.aside} | (
        {UNREADABLE: len(unreadable)} if unreadable else {}
    )
    return Look(
        summary=in_words(listing.given, used, aside, len(listing.classes)),
        given=listing.given,
        classes=classes,
        aside=aside,
        unreadable=tuple(unreadable),
        formats=dict(Counter(origin.format for origin in origins).most_common()),
        sizes=_sizes([origin.size for origin in origins]),
        copies=len(again),
        copied=tuple(pairs),
        coarse=None if coarse is None else round(coarse, 2),
        warnings=(
            *source.notes,
            *_missing(classes),
            *_damaged(source, damaged),
            *_seen(source, len(seen_before), int(is_test.sum())),
            *conflict_warnings(double),
            *([NOTE] if same else []),
            *found,
            *thumbnail_warning(coarse, len(listing.classes)),
        ),
        samples=samples,
    )


def _sizes(sizes: list[Size]) -> tuple[Size, ...]:
    ranked = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return (ranked[0], ranked[len(ranked) // 2], ranked[-1]) if ranked else ()


def _missing(classes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a warning for each split that is there and lacks some classes."""
    warnings = []
    for split in SPLITS:
        without = [name for name, counts in classes.items() if not counts.get(split)]
        if without and (len(without) < len(classes) or split == "test"):
            warnings.append(f"no {split} images of {in_short(without, SHOWN)}")
    return warnings


def _damaged(source: DataSource, damaged: Counter[tuple[Split, int]]) -> list[str]:
    """Return a warning for each split of which so many images cannot be read that `prune` may refuse it."""
    return [
        f"{bad:,} of {used:,} {split} images cannot be read: `prune` refuses more than {MAX_UNREADABLE:.0%}"
        for split in SPLITS
        if (bad := sum(count for (where, _), count in damaged.items() if where == split))
        > MAX_UNREADABLE * (used := source.listing.used(split))
    ]


def _seen(source: DataSource, again: int, tested: int) -> list[str]:
    """Return a warning about test images that are copies of others, and what `prune` does with them."""
    if not again:
        return []
    then = "keeps copies on one side" if source.listing.carved == "by name" else "leaves them out of the test"
    return [f"{again:,} of {tested:,} test images are copies of training images: `prune` {then}"]


def _count(source: DataSource, split: Split, index: int) -> int:
    return source.listing.reader.count(split, index)
