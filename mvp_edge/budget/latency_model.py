"""How long a sliced network takes, from a few that were timed.

Time is modelled as a constant, plus so much for each element that a layer writes, plus so much for each multiply-add,
at a speed of its own for layers of one kind (image size, grouped or not). Multiply-adds count twice: as they are, and
with channels rounded up to whole vector lanes, because the runtime pads in some layers and not in others. How long a
lane is, and which of the two says more, the measurements decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mvp_edge.budget.costs import Costs
from mvp_edge.budget.products import Products

LANES = (4, 8, 16, 32)


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Predicts milliseconds.

    Attributes:
        floor_ms: What the graph costs without work.
        parts: Milliseconds for multiply-adds, for padded multiply-adds, and for elements written.
        lane: Channels that are computed together.
        error: Root mean square of the relative error on the networks it was fitted to.
    """

    floor_ms: float
    parts: tuple[Products, ...]
    lane: int
    error: float

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return milliseconds `(...)` for counts `(..., G)`."""
        return np.sum([part(counts) for part in self.parts], axis=0) + self.floor_ms


def fit_latency(costs: Costs, counts: np.ndarray, times_ms: np.ndarray) -> LatencyModel:
    """Fit the model to timed networks, with the least relative error.

    Args:
        costs: Of the base model.
        counts: Kept units of each network `(N, G)`.
        times_ms: What each took `(N,)`.
    """
    return min((_fit(costs, counts, times_ms, lane) for lane in reversed(LANES)), key=lambda m: round(m.error, 4))


def _fit(costs: Costs, counts: np.ndarray, times_ms: np.ndarray, lane: int) -> LatencyModel:
    kinds = sorted(set(costs.kinds))
    members = np.array([[kind == own for own in costs.kinds] for kind in kinds], float)
    works = (costs.work, costs.work.padded(lane))
    by_kind = [work.terms(counts) * work.weight @ members.T for work in works]
    features = np.column_stack([np.ones(len(counts)), costs.outputs(counts), *by_kind]) / times_ms[:, None]
    scale = np.maximum(features.max(0), 1e-300)
    found = nonnegative_least_squares(features / scale, np.ones(len(counts)))
    error = float(np.sqrt(np.mean((features / scale @ found - 1) ** 2)))
    floor, element, *rest = found / scale
    speeds = np.array(rest).reshape(len(works), -1) @ members  # (2, T)
    parts = [work.weighted(work.weight * speed) for work, speed in zip(works, speeds, strict=True)]
    return LatencyModel(float(floor), (*parts, costs.outputs.weighted(costs.outputs.weight * element)), lane, error)


def nonnegative_least_squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return `x >= 0` that minimises `|a x - b|`.

    References:
        Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23.
    """
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], bool)
    for _ in range(10 * a.shape[1]):
        slope = np.where(free, -np.inf, a.T @ (b - a @ x))
        if slope.max() <= 1e-10:
            break
        free[slope.argmax()] = True
        while True:
            best = np.zeros_like(x)
            best[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            below = free & (best <= 0)
            if not below.any():
                break
            x = x + (x[below] / (x[below] - best[below])).min() * (best - x)
            free &= x > 1e-12
            if not free.any():
                return np.zeros_like(x)
        x = best
    return x
