"""The images of a run: all splits, without copies of training images in the test, and every file accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mvp_edge.config import PruneConfig
from mvp_edge.core.progress import Progress
from mvp_edge.data import DataSource, ImageSet, open_source, skipped_warnings
from mvp_edge.data.copies import NOTE, conflict_warnings, conflicts
from mvp_edge.data.images import Decode, Size, decode_all
from mvp_edge.data.leaks import coarse_accuracy, leaks, sample
from mvp_edge.data.listing import UNREADABLE, FileReader, Split, in_words
from mvp_edge.data.splits import Splits, divided, load_splits
from mvp_edge.prune.gate import JUDGED_IMAGES
from mvp_edge.prune.request import inside_data
from mvp_edge.report.record import PicturesRecord

SHOWN_COPIES = 5
SHOWN_CONFLICTS = 20
LEFT_OUT = "copies of training images, left out of the test"
LEFT_OUT_VAL = "copies of training images, left out of the validation"


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of the task's classes.

    Attributes:
        train: Images to train on.
        val: Images for choices, if the data have a validation split with all of the classes; no copies of training
            images.
        test: Images that only tell the accuracy; None if all are copies of training images.
        copied: Pairs of uint8 images `(3, H, W)`: left out of the test, and what it is a copy of.
        record: All files in numbers.
        warnings: Warnings for the user.
        decode: Reads image files again, at another size.
    """

    train: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    copied: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    record: PicturesRecord
    warnings: tuple[str, ...]
    decode: Decode = decode_all


def open_data(config: PruneConfig) -> DataSource:
    """Return the data of a run.

    Raises:
        DataError: As `open_source`.
        ConfigError: the place for the result is inside the data, by a link in them.
    """
    source = open_source(config.data or "", config.group_by)
    if source.holds(config.out):
        raise inside_data(config)
    return source


def read_pictures(source: DataSource, classes: Sequence[str], size: Size, progress: Progress) -> Pictures:
    """Read the images of a task.

    Args:
        source: The data.
        classes: Names of the task's classes.
        size: Height and width.
        progress: Progress reporter.

    Raises:
        DataError: a class is unknown or has no training or test images, or too many images cannot be read.
    """
    source = divided(source, classes, progress)
    found = load_splits(source, classes, size, progress)
    used, by_split = found.images, found.groups
    copied = found.copied("test", ("train", "val"))
    kept, out = np.flatnonzero(~copied), np.flatnonzero(copied)
    test = used["test"].subset(kept) if len(kept) else None
    val, repeated = used.get("val"), 0
    if val is not None:
        again = found.copied("val", ("train",))
        val, repeated = val.subset(np.flatnonzero(~again)), int(again.sum())
    pairs = [_original(used, by_split, int(i)) for i in out[:SHOWN_COPIES]]
    counts: dict[str, int] = {split: len(images) for split, images in used.items()} | {"test": len(kept)}
    if val is not None:
        counts["val"] = len(val)
    coarse = None
    if test is not None:
        rows = found.prints["test"].at(kept)
        coarse = coarse_accuracy(found.prints["train"], used["train"].labels.numpy(), rows, test.labels.numpy())
    double = _conflicts(list(used.values()), np.concatenate([by_split[split] for split in used]))
    record = _record(
        source, found, counts, [names for names, _ in pairs if all(names)], double, (len(out), repeated),
        _leaks(used["train"]), coarse,
    )  # fmt: skip
    return Pictures(
        train=used["train"],
        val=val,
        test=test,
        copied=tuple(images for _, images in pairs),
        record=record,
        warnings=(
            *source.notes, *skipped_warnings(*used.values()), *([NOTE] if found.alike else []),
            *_warnings(record, test, len(out), repeated), *conflict_warnings(double), *record.leaks,
        ),
        decode=source.listing.reader.decode if isinstance(source.listing.reader, FileReader) else decode_all,
    )  # fmt: skip


def _leaks(train: ImageSet) -> list[str]:
    labels = train.labels.numpy()
    some = sample(labels)
    return leaks(train.origins, labels, train.images[some], labels[some], train.classes)


def _original(
    used: dict[Split, ImageSet], groups: dict[Split, np.ndarray], index: int
) -> tuple[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]:
    """Return the files and pixels of a test image and of the first image that it is a copy of."""
    for split in ("train", "val"):
        if split in used and len(found := np.flatnonzero(groups[split] == groups["test"][index])):
            mine, other, at = used["test"], used[split], int(found[0])
            names = (mine.files[index], other.files[at]) if mine.files and other.files else ("", "")
            return names, (mine.images[index], other.images[at])
    raise ValueError(f"test image {index} is no copy")


def _record(
    source: DataSource,
    found: Splits,
    counts: dict[str, int],
    copied: Sequence[tuple[str, str]],
    double: Sequence[tuple[str, str]],
    left_out: tuple[int, int],
    leaking: Sequence[str],
    coarse: float | None,
) -> PicturesRecord:
    listing, used = source.listing, found.images
    groups = np.concatenate([found.groups[split] for split in used])
    unreadable = sum(len(images.skipped) for images in used.values())
    away = Counter({each.reason: len(each.files) for each in listing.aside})
    away += Counter({UNREADABLE: unreadable, LEFT_OUT: left_out[0], LEFT_OUT_VAL: left_out[1]})
    # What is left of the data are images of other classes, and a validation split without all of the classes.
    if other := listing.given - sum(counts.values()) - sum(away.values()):
        away["of classes or splits that this task does not use"] = other
    return PicturesRecord(
        given=listing.given,
        used=counts,
        aside=dict(away),
        copies=len(groups) - len(np.unique(groups)),
        copied=tuple(copied),
        two_classes=tuple(double[:SHOWN_CONFLICTS]),
        summary=in_words(listing.given, counts, away, len(used["train"].classes)),
        leaks=tuple(leaking),
        coarse=None if coarse is None else round(coarse, 2),
    )


def _conflicts(sets: Sequence[ImageSet], groups: np.ndarray) -> list[tuple[str, str]]:
    """Return pairs of files that are copies of each other with different classes."""
    labels = torch.cat([images.labels for images in sets]).numpy()
    files = [path for images in sets for path in images.files]
    return [(files[one], files[other]) for one, other in conflicts(groups, labels)] if len(files) == len(labels) else []


def _warnings(record: PicturesRecord, test: ImageSet | None, left_out: int, repeated: int) -> list[str]:
    warnings = []
    if repeated:
        whole = repeated + record.used["val"]
        warnings.append(f"{repeated} of {whole} validation images are copies of training images: they are not used")
    if 0 < (few := record.used.get("val", 0)) < JUDGED_IMAGES:
        warnings.append(f"{few} validation images decide nothing, as at least {JUDGED_IMAGES} are needed")
    if test is None and not left_out:
        warnings.append(
            "no test images remain, so the accuracy is unknown: each class is one picture, copies of one, or one group"
        )
    if test is not None and (gone := [c for k, c in enumerate(test.classes) if not bool((test.labels == k).any())]):
        warnings.append(f"no test images of {', '.join(gone)} remain: the accuracy is that of the other classes")
    if left_out:
        whole = left_out + record.used["test"]
        rest = "no test images remain, so the accuracy is unknown" if test is None else "they are left out of the test"
        example = f", such as {record.copied[0][0]} and {record.copied[0][1]}" if record.copied else ""
        warnings.append(f"{left_out} of {whole} test images are copies of training images{example}: {rest}")
    return warnings
