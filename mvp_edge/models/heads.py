"""The new classifier of a pruned model, before its first training step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.data import ImageSet, forward_batch, normalise
from mvp_edge.models.bases import Base
from mvp_edge.names.tasks import canonical, numbered

PENALTY = 1e-2  # of the ridge, relative to the mean variance of the features


def random_head(features: int, classes: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear classifier drawn uniformly within 1/sqrt(features), as torch initialises it."""
    bound = 1 / math.sqrt(features)
    return _linear(torch.empty(classes, features).uniform_(-bound, bound, generator=generator), torch.zeros(classes))


def shared_rows(names: Sequence[str], known: Sequence[str], head: nn.Linear) -> nn.Linear | None:
    """Return the rows of `head` for the classes `names`, or None if it does not know all of them."""
    row = numbered(known)
    if not all(canonical(n) in row for n in names):
        return None
    index = torch.tensor([row[canonical(n)] for n in names])
    return _linear(head.weight.detach()[index], head.bias.detach()[index])


@torch.no_grad()
def ridge_head(model: nn.Module, data: ImageSet, base: Base, device: torch.device) -> nn.Linear:
    """Return the classifier that fits one-hot targets best from one forward pass, in closed form.

    Args:
        model: A network whose own head is ignored; on `device`, with norms in evaluation mode.
        data: Images of the task.
        base: How images are normalised.
        device: Where to compute.
    """
    features = features_of(model, data.images, base, device).double()
    targets = F.one_hot(data.labels, len(data.classes)).double()
    centre, share = features.mean(0), targets.mean(0)
    x, y = features - centre, targets - share
    gram = x.T @ x
    gram += PENALTY * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, x.T @ y).T
    # Logits are left within about [0, 1]: a head scaled up to suit the cross-entropy sends larger gradients into the
    # backbone, and the trials that scaled it trained badly at rates above 0.01 (its share was not measured alone).
    return _linear(weight.float(), (share - weight @ centre).float())


@torch.no_grad()
def features_of(model: nn.Module, images: Tensor, base: Base, device: torch.device) -> Tensor:
    """Return what the head of a network in evaluation mode takes, float32 `(N, D)` on the CPU.

    Args:
        model: On `device`.
        images: uint8 `(N, 3, H, W)`.
        base: How images are normalised.
        device: Where to compute.
    """
    body: Any = model.eval()
    found = []
    for part in images.split(forward_batch(images)):
        seen = body.forward_features(normalise(part.to(device), base.mean, base.std))
        found.append(body.forward_head(seen, pre_logits=True).float().cpu())
    return torch.cat(found)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head
