"""What tells classes apart besides their subject: how their pictures were stored, marks on them, and coarse colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from mvp_edge.data.copies import SIDE, Prints
from mvp_edge.data.images import Origin

LEAST = 10  # pictures of a class, and of the others, to say anything
OF_CLASS, OF_OTHERS = 0.95, 0.05
SHOWN = 5
COMPARED, OTHERS = 20, 2000  # pictures of a class, for marks; at most so many of all others
FLAT, APART = 8, 16  # of 255: range of what is the same in all pictures; difference of what is not
COARSE = 8
DECAY = 0.1  # of the mean variance of a feature
MOST = 20_000
FOLDS = 5
NEARLY = 0.9  # of what a model has above chance, or could have
LEAST_GAIN = 10.0  # points above chance


def leaks(
    origins: Sequence[Origin], labels: np.ndarray, some: Tensor, some_labels: np.ndarray, classes: Sequence[str]
) -> list[str]:
    """Return in words which classes have a size, format, camera or mark that others do not have.

    Args:
        origins: Of each picture; empty if they come from no files.
        labels: Positions in `classes`.
        some: uint8 `(N, 3, H, W)`, pictures of each class, as `sample` chooses them.
        some_labels: Theirs.
        classes: Names.
    """
    return [*_of_files(origins, labels, classes), *_marks(some.numpy(), some_labels, classes)]


def sample(labels: np.ndarray) -> np.ndarray:
    """Return the positions of at most `COMPARED` pictures of each class, spread over all of its pictures."""
    of_class = (np.flatnonzero(labels == label) for label in np.unique(labels))
    return np.concatenate([rows[:: -(-len(rows) // COMPARED)] for rows in of_class])


def coarse_accuracy(given: Prints, labels: np.ndarray, test: Prints, test_labels: np.ndarray) -> float:
    """Return the balanced accuracy, in percent, of a linear classifier on thumbnails of 8 x 8 pixels.

    Args:
        given: Of pictures to fit it to, in which each class occurs.
        labels: Of these.
        test: Of other pictures, at least one.
        test_labels: Of these.
    """
    predicted = _fitted(_coarse(given), labels)(_coarse(test))
    return _balanced(predicted, test_labels)


def cross_validated(given: Prints, labels: np.ndarray, groups: np.ndarray) -> float | None:
    """Return the same by cross-validation; of pictures of one group, such as copies, only the first counts.

    Returns:
        Percent; None if there are fewer than two classes, or too few pictures of one.
    """
    _, first = np.unique(groups, return_index=True)
    order = np.random.default_rng(0).permutation(first)[:MOST]
    kept, counts = labels[order], np.bincount(labels[order])
    if len(counts) < 2 or counts.min() < FOLDS:
        return None
    fold = np.empty(len(order), int)
    for label in range(len(counts)):
        rows = np.flatnonzero(kept == label)
        fold[rows] = np.arange(len(rows)) % FOLDS
    values, predicted = _coarse(given, order), np.empty(len(order), int)
    for each in range(FOLDS):
        predicted[fold == each] = _fitted(values[fold != each], kept[fold != each])(values[fold == each])
    return _balanced(predicted, kept)


def thumbnail_warning(coarse: float | None, classes: int, reached: float | None = None) -> list[str]:
    """Return a warning if a linear classifier on thumbnails nearly suffices to tell the classes apart.

    Args:
        coarse: Its balanced accuracy in percent; None if it was not measured.
        classes: How many there are.
        reached: That of a model on the same images; None: what is possible.
    """
    chance = 100 / classes
    possible = 100 if reached is None else reached
    if coarse is None or coarse < chance + LEAST_GAIN or coarse - chance < NEARLY * (possible - chance):
        return []
    beside, then = ("", "") if reached is None else (
        f", and this model {reached:.1f} %", "; test with pictures from elsewhere"
    )  # fmt: skip
    return [
        f"a linear classifier on thumbnails of 8 x 8 pixels has a balanced accuracy of {coarse:.1f} %{beside}: the "
        f"images may differ by background, colour, border or watermark more than by what they show{then}"
    ]


def _of_files(origins: Sequence[Origin], labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    found = []
    for what in Origin._fields if origins else ():
        values: dict[object, int] = {}
        codes = np.array([values.setdefault(getattr(origin, what), len(values)) for origin in origins])
        table = np.zeros((len(classes), len(values)), int)
        np.add.at(table, (labels, codes), 1)
        every, of_class = table.sum(0), table.sum(1)
        lines = []
        for label in np.flatnonzero((of_class >= LEAST) & (of_class.sum() - of_class >= LEAST)).tolist():
            value = int(table[label].argmax())
            mine, others = int(table[label, value]), int(every[value] - table[label, value])
            whole, rest = int(of_class[label]), int(of_class.sum() - of_class[label])
            if mine >= OF_CLASS * whole and others <= OF_OTHERS * rest:
                shown = origins[int(np.flatnonzero(codes == value)[0])].words(what)
                lines.append(
                    f"{mine:,} of {whole:,} images of {classes[label]} {shown}, and {others:,} of {rest:,} others"
                )
        found += _short(lines, what)
    return found


def _marks(images: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Find pixels that are the same in all pictures of a class, and different in others."""
    lines = []
    for label, name in enumerate(classes):
        mine, rest = images[labels == label], np.flatnonzero(labels != label)
        if len(mine) < LEAST or len(rest) < LEAST:
            continue
        flat = (np.ptp(mine, axis=0) <= FLAT).all(0)  # (H, W)
        if flat.any():
            others = images[rest[:: -(-len(rest) // OTHERS)]][:, :, flat].astype(np.int16)
            away = np.abs(others - np.median(mine[:, :, flat], axis=0).astype(np.int16))
            flat[flat] = (away.max(1) < APART).mean(0) <= OF_OTHERS
        if flat.any():
            lines.append(
                f"all {len(mine)} images of {name} that were compared are the same {_where(flat)} "
                f"({100 * flat.mean():.1f} % of the picture), as a border, a watermark or a backdrop is; others differ"
            )
    return _short(lines, "mark")


def _where(flat: np.ndarray) -> str:
    rows, columns = np.nonzero(flat)
    if flat[[0, -1]].any(1).all() and flat[:, [0, -1]].any(0).all():
        return "around the border"
    high, wide = (int(3 * (at.mean() + 0.5) / side) for at, side in zip((rows, columns), flat.shape, strict=True))
    return ("at the top", "in the middle", "at the bottom")[high] + (" left", "", " right")[wide]


def _short(lines: list[str], what: str) -> list[str]:
    more = len(lines) - SHOWN
    return lines if more <= 0 else [*lines[:SHOWN], f"{more} more classes have a {what} of their own"]


def _coarse(given: Prints, rows: np.ndarray | None = None) -> np.ndarray:
    """Return the thumbnails of some pictures in 8 x 8 pixels, float32 `(N, 192)`."""
    thumbnails = given.thumbnails if rows is None else given.thumbnails[rows]
    factor = SIDE // COARSE
    blocks = thumbnails.reshape(len(thumbnails), 3, COARSE, factor, COARSE, factor)
    return blocks.mean((3, 5), dtype=np.float32).reshape(len(thumbnails), -1)


def _fitted(values: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a linear discriminant: the nearest class mean, where directions in which classes vary count less.

    A regression on the classes would miss those between two others.
    """
    counts = np.bincount(labels)
    means = np.zeros((len(counts), values.shape[1]), np.float32)
    np.add.at(means, labels, values)
    means /= np.maximum(counts, 1)[:, None]
    within = values - means[labels]
    spread = within.T @ (within * (1 / np.maximum(counts, 1))[labels][:, None].astype(np.float32))
    spread[np.diag_indices_from(spread)] += DECAY * max(float(np.trace(spread)) / len(spread), 1e-6)
    weights = np.linalg.solve(spread, means.T)  # (192, classes)
    level = (means * weights.T).sum(1) / 2
    return lambda other: (other @ weights - level).argmax(1)


def _balanced(predicted: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float(np.mean([(predicted[labels == label] == label).mean() for label in np.unique(labels)]))
