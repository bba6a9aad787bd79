"""A look at a data set: counts by class and split, what is set aside, what cannot be read, and copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mvp_edge.core.progress import Progress
from mvp_edge.data.copies import Prints, copies, prints
from mvp_edge.data.listing import SPLITS, Split
from mvp_edge.data.source import DataSource

SIDE = 32
SHOWN = 20


@dataclass(frozen=True)
class Look:
    """What a data set holds.

    Attributes:
        summary: Files given, used and set aside, in one line.
        given: Number of files.
        classes: Number of images by class and split, as listed.
        aside: Number of files that are not used, by reason.
        unreadable: Path and reason of images that cannot be read.
        copies: Number of images that are copies, or nearly, of an earlier one.
        copied: Pairs of such files, the first ones.
        warnings: Notes for the user.
    """

    summary: str
    given: int
    classes: dict[str, dict[str, int]]
    aside: dict[str, int]
    unreadable: tuple[tuple[str, str], ...]
    copies: int
    copied: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def look(source: DataSource, progress: Progress) -> Look:
    """Read all images of a data set once, in small, and return what it holds; one class is in memory at a time."""
    listing = source.listing
    unreadable: list[tuple[str, str]] = []
    files: list[str] = []
    seen: list[Prints] = []
    with progress.stage("Reading images", sum(map(listing.used, SPLITS))) as stage:
        for index in range(len(listing.classes)):
            for split in SPLITS:
                if not listing.reader.count(split, index):
                    continue
                pixels = listing.reader.read(split, [index], (SIDE, SIDE), stage.advance)
                unreadable += pixels.failures
                files += pixels.files
                seen.append(prints(pixels.images))
    every = Prints(
        np.concatenate([np.empty(0, np.uint64), *(each.hashes for each in seen)]),
        np.concatenate([*(each.thumbnails for each in seen)]) if seen else np.empty((0, 768), np.uint8),
    )
    groups = copies(every)
    _, first = np.unique(groups, return_index=True)
    again = np.setdiff1d(np.arange(len(groups)), first)
    pairs = [(files[i], files[first[groups[i]]]) for i in again[:SHOWN].tolist()] if files else []
    return Look(
        summary=source.summary,
        given=listing.given,
        classes={
            name: {split: count for split in SPLITS if (count := _count(source, split, index))}
            for index, name in enumerate(listing.classes)
        },
        aside={each.reason: len(each.files) for each in listing.aside},
        unreadable=tuple(unreadable),
        copies=len(again),
        copied=tuple(pairs),
        warnings=source.notes,
    )


def _count(source: DataSource, split: Split, index: int) -> int:
    return source.listing.reader.count(split, index)
