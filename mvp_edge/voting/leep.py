"""LEEP, cross-fitted: how well a member's predictions on a task's images tell the task's classes apart."""

from __future__ import annotations

import torch
from torch import Tensor

PRIOR_IMAGES = 0.1  # weight of the classes' frequencies; with 1, generalists lose their place where images are few


def leep(source_probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean log probability of the images' classes; at most 0, higher is nearer.

    LEEP predicts an image's class y from the member's classes z: `sum_z P(y|z) theta(z)`, where P(y|z) is estimated on
    the same images. With many source classes and few images that remembers them: pure noise over 1,000 classes looks
    near. Here P(y|z) comes from the other images (leave-one-out), and from the frequencies of y where these have shown
    little of z. A member that tells nothing of the classes scores the negative entropy of the labels or less.

    Args:
        source_probabilities: Softmax outputs `(N, Z)` of the member on the target task's images.
        labels: Target classes `(N,)`.

    References:
        Nguyen et al., "LEEP: A New Measure to Evaluate Transferability of Learned Representations", 2020, Equation 2;
        the cross-fitting is ours.

    Example:
        >>> round(leep(torch.eye(2).repeat(50, 1), torch.tensor([0, 1]).repeat(50)), 3)
        -0.001
    """
    theta = source_probabilities.double()
    _, target, count = labels.unique(return_inverse=True, return_counts=True)
    joint = torch.zeros(len(count), theta.shape[1], dtype=torch.float64).index_add_(0, target, theta)
    prior = PRIOR_IMAGES * (count / len(labels)).double()[target, None]
    conditional = (joint[target] - theta + prior) / (joint.sum(0) - theta + PRIOR_IMAGES)
    return float((conditional * theta).sum(1).log().mean())
