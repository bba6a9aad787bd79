"""LEEP: how well a member's predictions on a task's images tell the task's classes apart."""

from __future__ import annotations

import torch
from torch import Tensor


def leep(source_probabilities: Tensor, labels: Tensor) -> float:
    """Return the log expected empirical prediction; at most 0, higher is nearer.

    Args:
        source_probabilities: Softmax outputs `(N, Z)` of the member on the target task's images.
        labels: Target classes `(N,)`.

    References:
        Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", 2020, Equation 2.

    Example:
        >>> leep(torch.eye(2), torch.tensor([0, 1]))
        0.0
    """
    n, z = source_probabilities.shape
    theta = source_probabilities.double()
    _, target = labels.unique(return_inverse=True)
    joint = torch.zeros(int(target.max()) + 1, z, dtype=torch.float64).index_add_(0, target, theta) / n
    # A source class that gets no mass at all would divide by zero.
    conditional = joint / joint.sum(0, keepdim=True).clamp(min=1e-12)
    expected = (conditional[target] * theta).sum(1)
    return float(expected.clamp(min=1e-12).log().mean()) + 0.0
