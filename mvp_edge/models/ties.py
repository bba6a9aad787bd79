"""Labels that are tied: those that are stand or fall together, and what is tied to 0 stays."""

from __future__ import annotations

import numpy as np

Labels = np.ndarray  # of one dimension: a label for each position


class Ties:
    """A forest over labels, each tied to the smallest of its tree (union-find)."""

    def __init__(self) -> None:
        self._parent = np.zeros(1, dtype=np.int64)

    def fresh(self, count: int) -> Labels:
        """Return so many labels that nothing is tied to."""
        first = len(self._parent)
        labels = np.arange(first, first + count)
        self._parent = np.concatenate([self._parent, labels])
        return labels

    def find(self, labels: Labels) -> Labels:
        """Return the canonical labels."""
        found = self._parent[labels]
        while not np.array_equal(found, further := self._parent[found]):
            found = further
        return found

    def tie(self, a: Labels | None, b: Labels | None) -> None:
        """Let positions stand or fall together; where one side is None, the other one stays."""
        if a is None and b is None:
            return
        a, b = np.broadcast_arrays(np.int64(0) if a is None else a, np.int64(0) if b is None else b)
        while True:
            one, other = self.find(a), self.find(b)
            differ = one != other
            if not differ.any():
                return
            one, other = one[differ], other[differ]
            np.minimum.at(self._parent, np.maximum(one, other), np.minimum(one, other))

    def freeze(self, labels: Labels | None) -> None:
        """Let positions stay."""
        self.tie(labels, None)
