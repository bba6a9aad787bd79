"""A score that a picture shows *any* listed class, from how near its features are to the base's classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.dictionary import nouns

KEPT = 0.95  # of pictures of listed classes, by the threshold of `known`
# EfficientNet-Lite0 on 90,705 training pictures: where two rows have this cosine or more, pictures whose first guess is
# one class give the other a probability of 0.1 on average, and 0.02 between 0.2 and 0.25. There are 71 such pairs, such
# as laptop and notebook, missile and projectile, monitor and screen.
NEAR = 0.4
GAIN = 40.0  # what cosines are multiplied by
UNLISTED = 0.5  # what the log-sum-exp of the unlisted ones counts
LEAST_NORM = 1e-6  # of features


@dataclass(frozen=True)
class Split:
    """The classes of a base, by what they say about the listed ones.

    Attributes:
        groups: Positions of the base classes of each name.
        listed: All of these, ascending.
        neutral: Classes that are neither: ancestors, descendants and near-duplicates of listed ones.
        unlisted: All others; a picture of them shows nothing that is listed.
    """

    groups: tuple[tuple[int, ...], ...]
    listed: tuple[int, ...]
    neutral: tuple[int, ...]
    unlisted: tuple[int, ...]


def split_classes(resolution: Resolution, near: Iterable[tuple[int, int]] = ()) -> Split:
    """Return which base classes are listed, which are neither, and which are unlisted.

    Args:
        resolution: Names that the base knows.
        near: Pairs of base classes that the base confuses (`near_duplicates`), in any order.

    Raises:
        ValueError: A name has no base classes, or no base class is unlisted.
    """
    if resolution.unknown:
        raise ValueError(f"the base does not know {', '.join(n.name for n in resolution.unknown)}")
    listed = {i for group in resolution.groups for i in group}
    offsets = [nouns().find(c.synset or "") for c in resolution.base.classes]
    wanted = [s for n in resolution.named if (s := nouns().find(n.synset or "")) is not None]
    own = {s.offset for s in wanted} | {s.offset for i in listed if (s := offsets[i]) is not None}
    above = {offset for s in wanted for offset in nouns().above(s)}
    neutral = {b if a in listed else a for a, b in near if (a in listed) != (b in listed)}
    for i, synset in enumerate(offsets):
        if synset is not None and (synset.offset in above or not own.isdisjoint(nouns().above(synset))):
            neutral.add(i)
    neutral -= listed
    unlisted = [i for i in range(len(offsets)) if i not in listed and i not in neutral]
    if not unlisted:
        raise ValueError("all classes of the base are listed, or nearly: nothing is left to tell them from")
    return Split(resolution.groups, tuple(sorted(listed)), tuple(sorted(neutral)), tuple(unlisted))


def listed_logits(logits: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Return a logit for each name, `(N, names)`: the log-sum-exp of those of its base classes.

    Args:
        logits: Of the base, `(N, C)`.
        groups: Positions of the base classes of each name, none empty.

    Raises:
        ValueError: A name has no base classes.
    """
    return np.stack([_log_sum_exp(logits, group) for group in groups], axis=1)


@dataclass(frozen=True, eq=False)
class FewRows:
    """Nearly the cosines of all classes of a base, in few dimensions.

    All rows of its last layer would be a quarter of a small network's bytes.

    Attributes:
        basis: `(K, D)`: turns features into coordinates.
        rows: `(C, K)`: turns coordinates into cosines, but for the norm of the features less `mean`.
        bias: `(C,)`, added to these.
        mean: `(D,)`: mean features of pictures of many kinds.
    """

    basis: np.ndarray
    rows: np.ndarray
    bias: np.ndarray
    mean: np.ndarray

    def cosines(self, features: np.ndarray) -> np.ndarray:
        """Return what `class_cosines` does of features `(N, D)`, nearly."""
        return (features @ self.basis.T @ self.rows.T + self.bias) / norms(features - self.mean)


def class_cosines(features: np.ndarray, rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return how near pictures are to each class, `(N, C)`: the cosine of the features with the class's row.

    Both are less their means: all pictures have much in common, and so have all rows.

    Args:
        features: What the last layer reads, `(N, D)`.
        rows: Weights of that layer, `(C, D)`.
        mean: Of the features of many pictures, `(D,)`.
    """
    apart, own = features - mean, rows - rows.mean(axis=0)
    return apart @ (own / norms(own)).T / norms(apart)


def norms(vectors: np.ndarray) -> np.ndarray:
    """Return the Euclidean norms of vectors `(N, D)`, `(N, 1)`, none of them 0."""
    return np.linalg.norm(vectors, axis=1, keepdims=True).clip(LEAST_NORM)


def known_score(cosines: np.ndarray, listed: Collection[int], neutral: Collection[int] = ()) -> np.ndarray:
    """Return how surely each picture shows a listed class, `(N,)`.

    It is the log-sum-exp of 40 times the cosines of the listed classes less half of that of the unlisted ones. On
    training pictures fewer others pass than by log odds of the logits, but for dogs (table in docs/measurements.md).

    Args:
        cosines: With all classes of the base, `(N, C)`.
        listed: Positions of the listed classes.
        neutral: Positions of classes that count neither way.

    Raises:
        ValueError: No class is listed, or none is unlisted.
    """
    unlisted = np.delete(np.arange(cosines.shape[1]), sorted({*listed, *neutral}))
    own, other = _log_sum_exp(GAIN * cosines, sorted(listed)), _log_sum_exp(GAIN * cosines, unlisted)
    return own - UNLISTED * other


def known_threshold(scores: np.ndarray, kept: float = KEPT) -> float:
    """Return the greatest score that the share `kept` of listed pictures with these `(N,)` scores reaches.

    Raises:
        ValueError: There are no scores, or `kept` is not in (0, 1].
    """
    if not len(scores) or not 0 < kept <= 1:
        raise ValueError(f"{len(scores)} scores and a share of {kept}; scores and a share in (0, 1] are required")
    return float(np.sort(scores)[len(scores) - int(np.ceil(kept * len(scores) - 1e-9))])


def near_duplicates(rows: np.ndarray, least: float = NEAR) -> list[tuple[int, int]]:
    """Return the pairs of classes that a base can hardly tell apart, ascending: their rows of the classifier are alike.

    Args:
        rows: Weights of the base's last layer, `(C, D)`.
        least: Cosine from which on two rows, less the mean row, count as alike.
    """
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
    alike = centred @ centred.T >= least
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(alike, 1))]


def _log_sum_exp(logits: np.ndarray, classes: Sequence[int] | np.ndarray) -> np.ndarray:
    if not len(classes):
        raise ValueError("a log-sum-exp of no classes has no value")
    chosen = logits[:, classes]
    largest = chosen.max(axis=1, keepdims=True)
    return np.log(np.exp(chosen - largest).sum(axis=1)) + largest[:, 0]  # scipy's takes 0.8 s to import
