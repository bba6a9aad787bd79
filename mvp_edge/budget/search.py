"""How many units of each group fit a budget.

`search` climbs greedily in multiples of channels under limits on modelled costs; it is pure and deterministic.
`fit_budget` measures what the search found, corrects the models, and searches again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mvp_edge.budget.costs import Achieved

Cost = Callable[[np.ndarray], np.ndarray]  # counts (..., G) -> (...)
Rule = Literal["uniform", "global"]
STEPS = 64  # strides up a group's width while there is room; the last ones are single multiples
SEARCHES = 12  # at most
ENOUGH = 0.96  # of the tightest limit: no further search then
SAME = 0.004  # relative difference of two scales


@dataclass(frozen=True, eq=False)
class Groups:
    """What may be kept of each of `G` groups: a multiple of some channels, or all.

    Attributes:
        widths: Units `(G,)`.
        multiples: Units that counts are multiples of `(G,)`.
    """

    widths: np.ndarray
    multiples: np.ndarray

    @staticmethod
    def of(widths: np.ndarray, unit_channels: np.ndarray, channel_multiple: int) -> Groups:
        """Return groups whose counts are multiples of `channel_multiple` channels."""
        return Groups(widths, np.array([channel_multiple // math.gcd(channel_multiple, int(c)) for c in unit_channels]))

    @property
    def least(self) -> np.ndarray:
        """The smallest counts `(G,)`."""
        return np.minimum(self.multiples, self.widths)

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
        """Return the fraction of the bound that counts `(..., G)` use."""
        return self.cost(counts) / self.bound


def search(
    groups: Groups, utility: Utility, limits: Sequence[Limit], rule: Rule, start: np.ndarray | None = None
) -> np.ndarray | None:
    """Return the counts `(G,)` that a climb from the smallest ones reaches before any further step breaks a limit.

    Each step adds one multiple, or several while a group has room, to the group that `rule` puts first: `uniform` the
    group that keeps the smallest fraction; `global` the group whose next units score highest, whatever they cost.

    Args:
        groups: Widths and multiples.
        utility: Of the units, best first.
        limits: All must hold.
        rule: Which group grows next.
        start: Counts to climb from; the smallest counts if not given.

    Returns:
        The counts, or None if the start breaks a limit already.
    """
    counts = (groups.least if start is None else start).copy()
    if any(limit.used(counts) > 1 for limit in limits):
        return None
    coarse = np.maximum(groups.widths // (STEPS * groups.multiples), 1) * groups.multiples
    for strides in (coarse, groups.multiples) if (coarse > groups.multiples).any() else (groups.multiples,):
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
        if rule == "uniform":
            merit = -counts / groups.widths
        else:
            merit = (utility.at(above) - utility.at(counts)) / np.maximum(above - counts, 1)
        chosen = int(np.where(frozen, -np.inf, merit).argmax())
        counts[chosen] = above[chosen]
        frozen[chosen] |= counts[chosen] >= groups.widths[chosen]
    return counts


@dataclass(frozen=True)
class BudgetFit:
    """Counts `(G,)` within a budget, and what they cost."""

    counts: np.ndarray
    achieved: Achieved


@dataclass(frozen=True)
class Bound:
    """One limit.

    Attributes:
        figure: Its name in `Achieved`.
        most: What is allowed.
        model: Of the figure.
        aim: Fraction of `most` that a measurement may reach: less than 1 where the next measurement may be a little
            larger.
    """

    figure: str
    most: float
    model: Cost
    aim: float = 1.0

    def used(self, achieved: Achieved) -> float:
        """Return the fraction of the aim that a network uses."""
        return getattr(achieved, self.figure) / (self.aim * self.most)


def fit_budget(
    bounds: Sequence[Bound],
    groups: Groups,
    utility: Utility,
    measure: Callable[[np.ndarray], Achieved],
    *,
    rule: Rule,
    initial: Sequence[np.ndarray] = (),
) -> BudgetFit | None:
    """Return counts whose *measured* costs are within all bounds and near the tightest one.

    The models may be wrong, as long as they are equally wrong for similar networks: each search scales them to what was
    measured last. Where a search comes out too small, the next one climbs on from there.

    Args:
        bounds: At least one.
        groups: Widths and multiples.
        utility: Of the units.
        measure: Returns what a network costs.
        rule: Of the search.
        initial: Counts to climb from: the first within the bounds, or the smallest counts if none is.

    Returns:
        What was found, or None if even the smallest counts break a bound.
    """
    best = None
    for first in (*initial, groups.least):
        found = measure(first)
        if _used(bounds, found) <= 1:
            best = BudgetFit(first, found)
            break
    if best is None:
        return None
    # Scales at a network that is too large and at the best so far: the truth between the two lies between them.
    origin, scales, over = best, _scales(bounds, best), None
    tried = {tuple(best.counts)}
    for _ in range(SEARCHES):
        counts = search(groups, utility, _limits(bounds, scales), rule, origin.counts)
        if counts is None or tuple(counts) in tried:
            near = _scales(bounds, best)
            if over is None or np.allclose(over, near, rtol=SAME):
                break
            origin, scales = best, np.sqrt(near * over)
            over = scales
            continue
        tried.add(tuple(counts))
        found = BudgetFit(counts, measure(counts))
        used = _used(bounds, found.achieved)
        scales = _scales(bounds, found)
        if used > 1:
            over = scales
        elif used > _used(bounds, best.achieved):
            best = origin = found
        if ENOUGH <= used <= 1:
            break
    return best


def _used(bounds: Sequence[Bound], achieved: Achieved) -> float:
    return max(b.used(achieved) for b in bounds)


def _limits(bounds: Sequence[Bound], scales: np.ndarray) -> list[Limit]:
    return [Limit(b.model, b.aim * b.most / scale) for b, scale in zip(bounds, scales, strict=True)]


def _scales(bounds: Sequence[Bound], fitted: BudgetFit) -> np.ndarray:
    """Return measured / modelled of each bound."""
    return np.array([getattr(fitted.achieved, b.figure) / max(float(b.model(fitted.counts)), 1e-12) for b in bounds])
