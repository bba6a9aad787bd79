"""How often each of a zoo's ready-made bodies is expected to be right on a class list, from stored pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mvp_edge.config import PruneConfig
from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.known import Split, listed_logits, split_classes
from mvp_edge.prune.request import requested_names
from mvp_edge.zoo.bodies import Body, BodyZoo, Features

LEAST_PICTURES = 10  # of a name, for its accuracy to be told from its own
UNMEASURED = "not measured: no pictures of yours were given"
POOLED = "estimate: mean over random lists of as many names, {pictures}"
MORE = "upper bound: mean over random lists of {most} names, the longest that were tried, {pictures}"
OWN = "estimate: {n} pictures of these classes, {pictures}"


@dataclass(frozen=True)
class Expected:
    """Percent right that is expected of a body, and of the base at its own pixels, and what that rests on.

    The percentages are None where no pictures tell.
    """

    top1: float | None
    base_top1: float | None
    source: str
    n: int

    @property
    def drop(self) -> float | None:
        """Points below the base at its own pixels."""
        if self.top1 is None or self.base_top1 is None:
            return None
        return round(self.base_top1 - self.top1, 6)  # both are tenths, which have no exact binary form


@dataclass(frozen=True, eq=False)
class Request:
    """A class list resolved to a zoo's classes, with what each body is expected to do, the largest first."""

    zoo: BodyZoo
    resolution: Resolution
    split: Split | None
    expected: Sequence[tuple[Body, Expected]]


def read_request(config: PruneConfig, zoo: BodyZoo, resolution: Resolution | None = None) -> Request:
    """Resolve the class list, unless that is given, and find what each body is expected to do.

    Raises:
        MvpEdgeError: the class list cannot be used, or a file of the zoo is damaged.
    """
    resolution = resolution or requested_names(config, zoo)
    try:
        split = split_classes(resolution, zoo.near)
    except ValueError:  # every class of the base is listed, or nearly
        split = None
    return Request(zoo, resolution, split, expectations(zoo, resolution))


def expectations(zoo: BodyZoo, resolution: Resolution, forms: Sequence[Body] = ()) -> list[tuple[Body, Expected]]:
    """Return for each body how often it is right: on pictures of these very classes where the zoo has some of each.

    With `forms` it is for these.

    Raises:
        ZooError: a body's stored features are damaged.
    """
    whole = zoo.bodies[0]
    first, groups = zoo.features(whole), resolution.groups
    index = pictures_of(first, groups)
    if index is None:
        found = {b.id: b.expected_top1(len(groups)) for b in (whole, *(forms or zoo.bodies))}
        if None in found.values():
            return [(b, Expected(None, None, UNMEASURED, 0)) for b in forms or zoo.bodies]
        beyond = len(groups) > whole.most_names
        source = (MORE if beyond else POOLED).format(most=whole.most_names, pictures=zoo.pictures)
        rounded = {name: round(v or 0.0, 1) for name, v in found.items()}
        return [(b, Expected(rounded[b.id], rounded[whole.id], source, 0)) for b in forms or zoo.bodies]
    source, base = OWN.format(n=len(index), pictures=zoo.pictures), right(first, groups, index)
    scores = {b.id: base if b is whole else right(zoo.features(b), groups, index) for b in forms or zoo.bodies}
    return [(b, Expected(scores[b.id], base, source, len(index))) for b in forms or zoo.bodies]


def pictures_of(features: Features, groups: Sequence[Sequence[int]]) -> np.ndarray | None:
    """Return which stored pictures show a listed class; None unless each name has `LEAST_PICTURES`."""
    found = [np.flatnonzero(np.isin(features.labels, group)) for group in groups]
    return np.concatenate(found) if min(map(len, found)) >= LEAST_PICTURES else None


def right(features: Features, groups: Sequence[Sequence[int]], index: np.ndarray) -> float:
    """Return the percent of stored pictures that a body names rightly; each name counts the same."""
    guessed = listed_logits(features.logits(index), groups).argmax(1)
    scores = [float((guessed[np.isin(features.labels[index], group)] == i).mean()) for i, group in enumerate(groups)]
    return round(100 * float(np.mean(scores)), 1)
