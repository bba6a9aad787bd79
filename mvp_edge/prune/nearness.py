"""How near a photograph is to the classes that a network has learned: what its output `known` is, and its threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mvp_edge.names.known import known_threshold

FEWEST = 10  # photographs left out, for such a threshold to mean anything


@dataclass(frozen=True, eq=False)
class Nearness:
    """How near to a class features are that show it: cosines with the mean of the class.

    Attributes:
        means: Mean features `(names, D)` of the photographs of each name.
        threshold: Nearness to the nearest class below which a picture shows none of them.
        kept: The share of the photographs left out that reach the threshold.
        photographs: How many were left out.
        none: How many pictures of none of the classes there were.
        refused: The share of these below the threshold; 0 if there were none.
    """

    means: np.ndarray
    threshold: float
    kept: float
    photographs: int
    none: int = 0
    refused: float = 0.0


def cosines(features: Tensor, labels: Tensor, rest: Tensor, left_out: Tensor) -> Tensor:
    """Return the cosine of the features of some photographs with the nearest class mean of the others."""
    return cosines_with(class_means(features[rest], labels[rest]), features[left_out])


def cosines_with(means: Tensor, features: Tensor) -> Tensor:
    """Return the greatest cosine of features `(N, D)` with one of the means `(K, D)`, as the output `known` does."""
    return (F.normalize(features, dim=1) @ F.normalize(means, dim=1).T).amax(1)


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """Return the mean features of each class `(K, D)`."""
    return torch.stack([features[labels == k].mean(0) for k in range(int(labels.max()) + 1)])


def nearness_of(means: Tensor, left_out: np.ndarray | None, none: np.ndarray | None) -> Nearness | None:
    """Return how near photographs are to their classes; None if fewer than `FEWEST` were left out.

    Args:
        means: Mean features `(names, D)` of each class, by the network that is delivered.
        left_out: How near photographs are, `(N,)`, to networks that have not seen them; None if there are none.
        none: How near pictures of none of the classes are, `(N,)`: with these the threshold is where the shares of
            photographs kept and of such pictures refused have the largest sum.
    """
    if left_out is None or len(left_out) < FEWEST:
        return None
    if none is None:
        threshold = known_threshold(left_out)
    else:
        threshold = float(max(left_out, key=lambda t: ((left_out >= t).mean() + (none < t).mean(), -t)))
    kept = float((left_out >= threshold).mean())
    count, refused = (0, 0.0) if none is None else (len(none), float((none < threshold).mean()))
    return Nearness(means.numpy(), threshold, kept, len(left_out), count, refused)
