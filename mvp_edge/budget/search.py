"""Which counts of kept units to choose under limits: a greedy climb in whole lanes, pure and deterministic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Cost = Callable[[np.ndarray], np.ndarray]  # counts (..., G) -> (...)
Rule = Literal["balanced", "uniform", "global"]
STEPS = 64  # strides up a group's width while there is room; the last ones are single lanes


@dataclass(frozen=True, eq=False)
class Groups:
    """What may be kept of each of `G` groups: one lane at least, whole lanes, or all.

    Attributes:
        widths: Units `(G,)`.
        lanes: Units of a lane `(G,)`.
    """

    widths: np.ndarray
    lanes: np.ndarray

    @staticmethod
    def of(widths: np.ndarray, unit_channels: np.ndarray, channel_multiple: int) -> Groups:
        """Return groups whose lanes hold `channel_multiple` channels."""
        return Groups(widths, np.array([channel_multiple // math.gcd(channel_multiple, int(c)) for c in unit_channels]))

    @property
    def least(self) -> np.ndarray:
        """The smallest counts `(G,)`."""
        return np.minimum(self.lanes, self.widths)

    def above(self, counts: np.ndarray, strides: np.ndarray) -> np.ndarray:
        """Return each count raised to the next whole number of strides `(G,)`."""
        return np.minimum((counts // strides + 1) * strides, self.widths)


@dataclass(frozen=True, eq=False)
class Utility:
    """What keeping the best `k` units of a group is worth, by group: `best[g][k]`, rising, with falling steps."""

    best: tuple[np.ndarray, ...]

    @staticmethod
    def of(scores: Sequence[np.ndarray]) -> Utility:
        """Return the utility of units with these scores `(width,)`, above 0 somewhere in every group."""
        return Utility(tuple(np.concatenate([[0.0], np.cumsum(np.sort(s)[::-1])]) for s in scores))

    def at(self, counts: np.ndarray) -> np.ndarray:
        """Return the utility of each group `(G,)`."""
        return np.array([b[c] for b, c in zip(self.best, counts, strict=True)])


@dataclass(frozen=True, eq=False)
class Limit:
    """A cost that must not exceed a bound."""

    cost: Cost
    bound: float

    def used(self, counts: np.ndarray) -> np.ndarray:
        """Return which share of the bound counts `(..., G)` use."""
        return self.cost(counts) / self.bound


def search(
    groups: Groups, utility: Utility, limits: Sequence[Limit], rule: Rule = "balanced", start: np.ndarray | None = None
) -> np.ndarray | None:
    """Return the counts `(G,)` that a climb from the smallest ones reaches before any further lane breaks a limit.

    Each step adds a lane, or several while a group has room, to the group that `rule` puts first: `balanced` where the
    utility of a group grows most, relatively, for the share of the limits that it takes (so the product of the groups'
    worths rises fastest); `uniform` to the group that keeps the smallest fraction; `global` to the group whose next
    units score highest, whatever they cost.

    Args:
        groups: Widths and lanes.
        utility: Of the units, best first.
        limits: All must hold.
        rule: Which group grows next.
        start: Counts to climb from; one lane of each group if not given.

    Returns:
        The counts, or None if the start breaks a limit already.
    """
    counts = (groups.least if start is None else start).copy()
    if any(limit.used(counts) > 1 for limit in limits):
        return None
    coarse = np.maximum(groups.widths // (STEPS * groups.lanes), 1) * groups.lanes
    for strides in (coarse, groups.lanes) if (coarse > groups.lanes).any() else (groups.lanes,):
        counts = _climb(counts, groups, utility, limits, rule, strides)
    return counts


def _climb(
    counts: np.ndarray, groups: Groups, utility: Utility, limits: Sequence[Limit], rule: Rule, strides: np.ndarray
) -> np.ndarray:
    frozen = counts >= groups.widths
    while not frozen.all():
        above = groups.above(counts, strides)
        steps = np.where(np.eye(len(counts), dtype=bool), above, counts)  # row g: only group g has grown
        used = np.array([limit.used(steps) for limit in limits]).reshape(-1, len(counts))
        frozen |= (used > 1).any(0)
        if frozen.all():
            break
        now = sum(float(limit.used(counts)) for limit in limits)
        merit = _merit(counts, above, groups, utility, used.sum(0) - now, rule)
        chosen = int(np.where(frozen, -np.inf, merit).argmax())
        counts[chosen] = above[chosen]
        frozen[chosen] |= counts[chosen] >= groups.widths[chosen]
    return counts


def _merit(
    counts: np.ndarray, above: np.ndarray, groups: Groups, utility: Utility, price: np.ndarray, rule: Rule
) -> np.ndarray:
    if rule == "uniform":
        return -counts / groups.widths
    now, then = utility.at(counts), utility.at(above)
    if rule == "global":
        return (then - now) / np.maximum(above - counts, 1)
    return np.log(np.maximum(then, 1e-300) / np.maximum(now, 1e-300)) / np.maximum(price, 1e-12)
