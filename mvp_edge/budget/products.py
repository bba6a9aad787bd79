"""What a network costs as a function of how many units each group keeps: sums of products of two lengths."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Products:
    """`sum_t weight[t] * length[t, 0] * length[t, 1]`, where a length is `fixed + sum_g per_unit[g] * counts[g]`.

    Every tensor of a network is such a term: its two dimensions that groups may run through are the lengths, the
    others are in the weight.

    Attributes:
        weight: Of the terms `(T,)`.
        fixed: Positions that no group covers `(T, 2)`.
        per_unit: Positions of one unit `(T, 2, G)`.
        lane: Lengths that depend on a count are rounded up to multiples of this.
    """

    weight: np.ndarray
    fixed: np.ndarray
    per_unit: np.ndarray
    lane: int = 1

    def terms(self, counts: np.ndarray) -> np.ndarray:
        """Return the terms without their weights `(..., T)` for counts `(..., G)`."""
        length = self.fixed + np.einsum("tdg,...g->...td", self.per_unit, counts)
        if self.lane > 1:
            length = np.where(self.per_unit.any(-1), np.ceil(length / self.lane) * self.lane, length)
        return length[..., 0] * length[..., 1]

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return the sum `(...)` for counts `(..., G)`."""
        return self.terms(counts) @ self.weight

    def weighted(self, weight: np.ndarray) -> Products:
        """Return the same terms with other weights."""
        return replace(self, weight=weight)

    def joined(self, other: Products) -> Products:
        """Return the terms of both."""
        pairs = ((self.weight, other.weight), (self.fixed, other.fixed), (self.per_unit, other.per_unit))
        return Products(*(np.concatenate(pair) for pair in pairs), lane=self.lane)

    def padded(self, lane: int) -> Products:
        """Return the same terms with lengths rounded up to whole lanes."""
        return replace(self, lane=lane)
