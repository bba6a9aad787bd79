"""Fine-tuning on few images: how far to go from a network that works already is chosen on images left out.

A network fine-tuned on a handful of images may lose more than it gains, and no rule tells beforehand: pictures like
those that it was made from teach it little, pictures of another kind a lot. Between the weights before and after lie
networks that are often better than both ends. Cross-validation says how far along the way to go, if at all.

References:
    Wortsman et al., "Robust fine-tuning of zero-shot models", 2022 (WiSE-FT: mixing weights before and after);
    Wortsman et al., "Model soups", 2022 (the mean of the folds' weights);
    Guo et al., "On Calibration of Modern Neural Networks", 2017 (temperature).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.config import FitConfig
from mvp_edge.core.progress import Stage
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.models.bases import Base
from mvp_edge.training.loop import BatchSource, fit, make_optimizer, predict

State = Mapping[str, Tensor]

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
FOLDS = 3
TEMPERATURES = tuple(2 ** (i / 4) for i in range(-12, 13))  # 1/8 to 8


@dataclass(frozen=True)
class Mix:
    """How much of a fine-tuning is kept, and what that was chosen by.

    Attributes:
        share: 0 leaves the network as it was, 1 takes the fine-tuned weights.
        images: Number of images that were left out once each.
        folds: In so many parts.
        loss: Mean cross-entropy on images left out, by share, each at the temperature that suits it best.
        top1: Accuracy in percent on them, by share.
    """

    share: float
    images: int
    folds: int
    loss: dict[float, float]
    top1: dict[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value."""
        held_out = [
            {"share": s, "top1": round(self.top1[s], 2), "loss": round(self.loss[s], 4)} for s in sorted(self.loss)
        ]
        return {"share": self.share, "images": self.images, "folds": self.folds, "held_out": held_out}


def tune_mixed(
    model: nn.Module,
    data: ImageSet,
    base: Base,
    config: FitConfig,
    *,
    device: torch.device,
    seed: int,
    stage: Stage | None = None,
) -> Mix:
    """Fine-tune a network that works already, in place, as far as images left out say that it gains.

    The images are dealt out to folds; for each, a copy learns from the other folds' images and is tried on its own. The
    network gets the mean of the copies' weights, mixed with its own at the share that did best.

    Args:
        model: On `device`.
        data: At least two images of each class.
        base: How images are normalised.
        config: How each copy is trained.
        device: Where.
        seed: Of the folds and the batches.
        stage: Progress; `steps(config, data)` in all.

    Returns:
        What was chosen.
    """
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parts = folds(data.labels, rng(seed, "folds"))
    logits = {s: torch.empty(len(data), len(data.classes)) for s in SHARES}
    after = []
    for left_out in parts:
        rest = torch.ones(len(data), dtype=torch.bool).index_fill_(0, left_out, value=False).nonzero().flatten()
        copied = copy.deepcopy(model)
        source = BatchSource(data.subset(rest), base, config, device, seed)
        fit(copied, source, config, optimizer=make_optimizer(copied, config), stage=stage)
        after.append({k: v.clone() for k, v in copied.state_dict().items()})
        for share in SHARES:
            copied.load_state_dict(mixed(before, after[-1], share))
            logits[share][left_out] = predict(copied, data.images[left_out], base, device)
    losses = {s: calibrated_loss(v, data.labels) for s, v in logits.items()}
    share = choose(losses)
    model.load_state_dict(mixed(before, mean(after), share))
    model.eval()
    return Mix(
        share=share,
        images=len(data),
        folds=len(parts),
        loss={s: float(v.mean()) for s, v in losses.items()},
        top1={s: 100 * float((v.argmax(1) == data.labels).float().mean()) for s, v in logits.items()},
    )


def steps(config: FitConfig, data: ImageSet) -> int:
    """Return how many optimiser steps `tune_mixed` takes in all."""
    return config.iterations * fold_count(data.labels, len(data.classes))


def fold_count(labels: Tensor, classes: int) -> int:
    """Return into how many parts images with these labels are dealt out; below two there is nothing to leave out."""
    return min(FOLDS, int(torch.bincount(labels, minlength=classes).min()))


def folds(labels: Tensor, rng: np.random.Generator) -> list[Tensor]:
    """Deal out the positions of labels `(N,)`: every class is in every part, in equal numbers give or take one.

    Raises:
        ValueError: a class has fewer than two images.
    """
    count = fold_count(labels, int(labels.max()) + 1)
    if count < 2:
        raise ValueError(f"a class has {count} images; cross-validation needs at least 2 of each")
    order = torch.from_numpy(rng.permutation(len(labels)))
    order = order[labels[order].argsort(stable=True)]
    return [order[first::count].sort().values for first in range(count)]


def mixed(before: State, after: State, share: float) -> dict[str, Tensor]:
    """Return the tensors `share` of the way from `before` to `after`; norm statistics and biases alike.

    At the ends, and where a tensor holds whole numbers, they are those of one side, bit for bit.
    """
    if share in (0, 1):
        return dict(after if share else before)
    return {k: torch.lerp(v, after[k], share) if v.is_floating_point() else v for k, v in before.items()}


def mean(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of each tensor; of those that hold whole numbers, the first."""
    first = states[0]
    return {
        k: torch.stack([s[k] for s in states]).mean(0) if v.is_floating_point() else v for k, v in first.items()
    }  # fmt: skip


def calibrated_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each image's cross-entropy `(N,)` at the temperature that makes the mean least.

    Fine-tuning changes how sure a network is; that is not what a share is chosen for.

    Args:
        logits: `(N, C)`.
        labels: `(N,)`.
    """
    tried = (F.cross_entropy(logits / t, labels, reduction="none") for t in TEMPERATURES)
    return min(tried, key=lambda v: float(v.mean()))


def choose(losses: Mapping[float, Tensor]) -> float:
    """Return the share with the least mean loss, if it is below that of share 0 by more than one standard error.

    Args:
        losses: Loss of each of the same images `(N,)` by share; share 0 among them.
    """
    best = min(losses, key=lambda s: (float(losses[s].mean()), s))
    gains = losses[0.0] - losses[best]
    error = float(gains.std()) / len(gains) ** 0.5
    return best if float(gains.mean()) > error else 0.0
