"""Fine-tuning on few images: weights between those before and after it, chosen by cross-validation (WiSE-FT).

A network fine-tuned on a handful of images may lose more than it gains. Weights between those before and after
fine-tuning are often better than both. Cross-validation chooses the interpolation weight, which may be 0.

References:
    Wortsman et al., "Robust fine-tuning of zero-shot models", 2022 (WiSE-FT);
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
from mvp_edge.data import ImageSet, evened
from mvp_edge.models.bases import Base
from mvp_edge.training.loop import BatchSource, fit, predict
from mvp_edge.training.optimizers import make_optimizer

State = Mapping[str, Tensor]

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
FOLDS = 3
TEMPERATURES = tuple(2 ** (i / 4) for i in range(-12, 13))  # 1/8 to 8


@dataclass(frozen=True)
class Interpolation:
    """The interpolation weight that was chosen, and the figures behind the choice.

    Attributes:
        weight: 0 leaves the network as it was, 1 takes the fine-tuned weights.
        images: Number of images that were left out once each.
        folds: In so many parts.
        loss: Mean cross-entropy on images left out, by weight, each at its best temperature; every class counts alike.
        top1: Balanced accuracy in percent on them, by weight.
    """

    weight: float
    images: int
    folds: int
    loss: dict[float, float]
    top1: dict[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value."""
        held_out = [
            {"weight": s, "top1": round(self.top1[s], 2), "loss": round(self.loss[s], 4)} for s in sorted(self.loss)
        ]
        return {"weight": self.weight, "images": self.images, "folds": self.folds, "held_out": held_out}


@dataclass(frozen=True, eq=False)
class Fold:
    """One part of the images, and the network that was trained without it.

    Attributes:
        left_out: Positions of its images.
        rest: Positions of the others.
        state: Tensors of the network, at the interpolation weight that was chosen.
    """

    left_out: Tensor
    rest: Tensor
    state: State


def tune_interpolated(
    model: nn.Module,
    data: ImageSet,
    base: Base,
    config: FitConfig,
    *,
    device: torch.device,
    seed: int,
    stage: Stage | None = None,
) -> tuple[Interpolation, Fold]:
    """Fine-tune a network that works already, in place, with the interpolation weight that held-out images favour.

    For each fold a copy is trained on the other folds and evaluated on this one. The network gets the mean of the
    copies' weights, interpolated with its own.

    Args:
        model: On `device`.
        data: At least two images of each class, or groups of images that must not be parted.
        base: How images are normalised.
        config: How each copy is trained.
        device: Where.
        seed: Of the folds and the batches.
        stage: Progress; `steps(config, data)` in all.

    Returns:
        What was chosen, and the first fold: the network itself gets the mean over all folds, which has seen all images.
    """
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parts = grouped_folds(data, rng(seed, "folds"), fold_count(data))
    logits = {s: torch.empty(len(data), len(data.classes)) for s in WEIGHTS}
    after = []
    for left_out in parts:
        rest = rest_of(left_out, len(data))
        copied = copy.deepcopy(model)
        part = data.subset(rest)
        source = BatchSource(part, base, config, device, seed, rows=evened(part.labels))
        fit(copied, source, config, optimizer=make_optimizer(copied, config), stage=stage)
        after.append({k: v.clone() for k, v in copied.state_dict().items()})
        for weight in WEIGHTS:
            copied.load_state_dict(interpolate(before, after[-1], weight))
            logits[weight][left_out] = predict(copied, data.images[left_out], base, device)
    balance = class_weights(data.labels)
    losses = {s: calibrated_loss(v, data.labels, balance) for s, v in logits.items()}
    top1 = {s: balanced_top1(v, data.labels) for s, v in logits.items()}
    # What is less accurate on held-out images than the network was before is not delivered, whatever its loss.
    weight = choose({s: v for s, v in losses.items() if top1[s] >= top1[0.0]})
    model.load_state_dict(interpolate(before, mean(after), weight))
    model.eval()
    chosen = Interpolation(
        weight=weight,
        images=len(data),
        folds=len(parts),
        loss={s: float(v.mean()) for s, v in losses.items()},
        top1=top1,
    )
    return chosen, Fold(parts[0], rest_of(parts[0], len(data)), interpolate(before, after[0], weight))


def steps(config: FitConfig, data: ImageSet) -> int:
    """Return how many optimiser steps `tune_interpolated` takes in all."""
    return config.iterations * fold_count(data)


def fold_count(data: ImageSet) -> int:
    """Return the number of folds for these images; cross-validation needs two images, or groups, of each class."""
    table = data.grouping
    counts = np.bincount(data.labels, minlength=len(data.classes)) if table is None else (table > 0).sum(0)
    return min(FOLDS, int(counts.min()))


def grouped_folds(data: ImageSet, rng: np.random.Generator, count: int) -> list[Tensor]:
    """Return the positions of images in folds, as `folds` does, with all images of a group in one fold.

    Groups, the largest first, go where there are fewest of their classes. One that would leave no image of a class
    outside of a fold is in none.

    Raises:
        ValueError: there are fewer than two folds.
    """
    table = data.grouping
    if table is None or count < 2:
        return folds(data.labels, rng, count)
    order = rng.permutation(len(table))
    order = order[np.argsort(-table[order].sum(1), kind="stable")]
    total, held = table.sum(0), np.zeros((count, table.shape[1]), int)
    chosen: list[list[int]] = [[] for _ in range(count)]
    for group in order.tolist():
        inside = table[group] > 0
        after = held[:, inside] + table[group, inside]
        able = np.flatnonzero((after < total[inside]).all(1))
        if len(able):
            fold = int(able[np.argmin((held[able][:, inside] / total[inside]).sum(1))])
            chosen[fold].append(group)
            held[fold] += table[group]
    return [data.in_groups(np.array(groups, int)) for groups in chosen]


def folds(labels: Tensor, rng: np.random.Generator, count: int) -> list[Tensor]:
    """Return the positions of labels `(N,)` in folds that hold every class in equal numbers, give or take one.

    A class of fewer images than folds is in as many of them as it has images, the first among them; one of a single
    image is in none, so that every class is outside of every fold.

    Raises:
        ValueError: there are fewer than two folds.
    """
    if count < 2:
        raise ValueError(f"images cannot be left out in {count} folds; at least 2 are needed")
    order = torch.from_numpy(rng.permutation(len(labels)))
    order = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    order = order[counts[labels[order]] > 1]
    place = torch.arange(len(order))
    in_class = place - torch.searchsorted(labels[order].contiguous(), labels[order].contiguous())
    fold = torch.where(counts[labels[order]] < count, in_class, place) % count
    return [order[fold == k].sort().values for k in range(count)]


def rest_of(left_out: Tensor, count: int) -> Tensor:
    """Return the positions below `count` that are not left out, ascending."""
    return torch.ones(count, dtype=torch.bool).index_fill_(0, left_out, value=False).nonzero().flatten()


def interpolate(before: State, after: State, weight: float) -> dict[str, Tensor]:
    """Return (1 - `weight`) `before` + `weight` `after` of all tensors, norm statistics and biases among them.

    At the ends, and where a tensor holds whole numbers, they are those of one side, bit for bit.
    """
    if weight in (0, 1):
        return dict(after if weight else before)
    return {k: torch.lerp(v, after[k], weight) if v.is_floating_point() else v for k, v in before.items()}


def mean(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of each tensor; of those that hold whole numbers, the first."""
    first = states[0]
    return {
        k: torch.stack([s[k] for s in states]).mean(0) if v.is_floating_point() else v for k, v in first.items()
    }  # fmt: skip


def class_weights(labels: Tensor) -> Tensor:
    """Return a weight for each image `(N,)` with which every class counts alike; their mean is 1."""
    counts = torch.bincount(labels)
    return (len(labels) / (int((counts > 0).sum()) * counts[labels].double())).float()


def balanced_top1(logits: Tensor, labels: Tensor) -> float:
    """Return the mean over the classes of the accuracy on their images, in percent."""
    return 100 * float(((logits.argmax(1) == labels) * class_weights(labels)).mean())


def calibrated_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return each image's weighted cross-entropy `(N,)` at the temperature that makes the mean least.

    Fine-tuning changes a network's confidence; the interpolation weight is not chosen for that.

    Args:
        logits: `(N, C)`.
        labels: `(N,)`.
        weights: `(N,)`, of mean 1.
    """
    tried = (weights * F.cross_entropy(logits / t, labels, reduction="none") for t in TEMPERATURES)
    return min(tried, key=lambda v: float(v.mean()))


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature at which logits `(N, C)` have the least cross-entropy.

    As if one more image had been any class, so that a few images that are all right do not make it certain of all.
    """
    doubt = 1 / (1 + len(labels))
    return min(TEMPERATURES, key=lambda t: float(F.cross_entropy(logits / t, labels, label_smoothing=doubt)))


def choose(losses: Mapping[float, Tensor]) -> float:
    """Return the weight with the least mean loss, if it is below that of weight 0 by more than one standard error.

    Args:
        losses: Loss of each of the same images `(N,)` by weight; weight 0 among them.
    """
    best = min(losses, key=lambda s: (float(losses[s].mean()), s))
    gains = losses[0.0] - losses[best]
    error = float(gains.std()) / len(gains) ** 0.5
    return best if float(gains.mean()) > error else 0.0
