"""Finding the counts that meet a budget: search with models, measure what was found, correct the models, repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mvp_edge.budget.probe import Achieved
from mvp_edge.budget.search import Cost, Groups, Limit, Rule, Utility, search

SEARCHES = 12
ENOUGH = 0.96  # of the tightest limit: no further search then
SAME = 0.004


@dataclass(frozen=True)
class Fitted:
    """Counts `(G,)` that meet a budget, and what they cost."""

    counts: np.ndarray
    achieved: Achieved


@dataclass(frozen=True)
class Bound:
    """One limit.

    Attributes:
        figure: Its name in `Achieved`.
        most: What is allowed.
        model: Of the figure.
        aim: Share of `most` that is not exceeded when measured: less than 1 for what the next measurement may find
            a little larger.
    """

    figure: str
    most: float
    model: Cost
    aim: float = 1.0

    def share(self, achieved: Achieved) -> float:
        """Return which share of what is aimed at a network uses."""
        return getattr(achieved, self.figure) / (self.aim * self.most)


def fit_budget(
    bounds: Sequence[Bound],
    groups: Groups,
    utility: Utility,
    measure: Callable[[np.ndarray], Achieved],
    *,
    rule: Rule,
    initial: Sequence[np.ndarray] = (),
) -> Fitted | None:
    """Return counts whose *measured* costs are within all bounds and near the tightest one.

    The models may be off, as long as they are off alike for networks near each other: each search uses them scaled to
    what was measured last. When a search comes out too small, the next climbs on from there.

    Args:
        bounds: At least one.
        groups: Widths and lanes.
        utility: Of the units.
        measure: Tells what a network costs.
        rule: Of the search.
        initial: Counts to climb from: the first that meet the bounds do; else one lane of each group.

    Returns:
        What was found, or None if even one lane of each group breaks a bound.
    """
    best = None
    for first in (*initial, groups.least):
        found = measure(first)
        if _share(bounds, found) <= 1:
            best = Fitted(first, found)
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
        found = Fitted(counts, measure(counts))
        used = _share(bounds, found.achieved)
        scales = _scales(bounds, found)
        if used > 1:
            over = scales
        elif used > _share(bounds, best.achieved):
            best = origin = found
        if ENOUGH <= used <= 1:
            break
    return best


def _share(bounds: Sequence[Bound], achieved: Achieved) -> float:
    return max(b.share(achieved) for b in bounds)


def _limits(bounds: Sequence[Bound], scales: np.ndarray) -> list[Limit]:
    return [Limit(b.model, b.aim * b.most / scale) for b, scale in zip(bounds, scales, strict=True)]


def _scales(bounds: Sequence[Bound], fitted: Fitted) -> np.ndarray:
    """Return measured / modelled of each bound."""
    return np.array([getattr(fitted.achieved, b.figure) / max(float(b.model(fitted.counts)), 1e-12) for b in bounds])
