"""Made-up networks whose costs are known in closed form."""

from __future__ import annotations

import numpy as np

from mvp_edge.budget.costs import Products
from mvp_edge.budget.search import Groups, Limit, Utility

WIDTHS = np.array([16, 32, 64])


def chain(speeds: tuple[float, ...] = (4.0, 2.0, 1.0, 1.0), floor: float = 100.0) -> Products:
    """Return the cost of layers in a row: 3 inputs -> group 0 -> group 1 -> group 2 -> 5 outputs, and a constant."""
    unit = np.eye(3)
    none = np.zeros(3)
    per_unit = np.array([[none, unit[0]], [unit[0], unit[1]], [unit[1], unit[2]], [unit[2], none], [none, none]])
    fixed = np.array([[3, 0], [0, 0], [0, 0], [0, 5], [1, 1]], float)
    return Products(np.array([*speeds, floor]), fixed, per_unit)


def groups(channel_multiple: int = 4) -> Groups:
    return Groups.of(WIDTHS, np.ones(3, int), channel_multiple)


def utility(seed: int = 0) -> Utility:
    draw = np.random.default_rng(seed)
    return Utility.of([draw.uniform(0.1, 1, w) for w in WIDTHS])


def limit(bound: float, cost: Products | None = None) -> Limit:
    return Limit(cost or chain(), bound)
