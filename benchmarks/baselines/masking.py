"""Unstructured sparsity: zeros in a network of the old size, kept zero through training."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng
from mvp_edge.models.architectures import set_head
from mvp_edge.models.heads import ridge_head
from mvp_edge.training.loop import BatchSource, reestimate_norms

START_IMAGES = 512


@dataclass(eq=False)
class Masks:
    """Which weights of a network live, by parameter name; the head, norms and biases are always dense.

    Attributes:
        model: The network.
        keep: Boolean tensors of the weights' shapes, True where a weight lives.
    """

    model: nn.Module
    keep: dict[str, Tensor]

    @property
    def density(self) -> float:
        """Living weights / all weights that could be dropped."""
        return sum(int(k.sum()) for k in self.keep.values()) / sum(k.numel() for k in self.keep.values())

    def weights(self) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        """Yield name, weight and mask of every layer."""
        for name, keep in self.keep.items():
            yield name, self.model.get_parameter(name), keep

    @torch.no_grad()
    def apply(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Set dropped weights, and their momentum, to zero."""
        for _, weight, keep in self.weights():
            weight.mul_(keep)
            momentum = optimizer.state[weight].get("momentum_buffer") if optimizer else None
            if momentum is not None:
                momentum.mul_(keep)


def prunable(model: nn.Module, head: str) -> dict[str, nn.Parameter]:
    """Return the weights of all convolutions and linear layers but the head, by name."""
    return {
        f"{name}.weight": model.get_parameter(f"{name}.weight")
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and name != head
    }


def magnitude_masks(model: nn.Module, head: str, keep: float) -> Masks:
    """Keep the largest weights of each layer."""
    return Masks(model, {n: largest(w.detach().abs(), keep) for n, w in prunable(model, head).items()})


def random_masks(model: nn.Module, head: str, keep: float, generator: torch.Generator) -> Masks:
    """Keep weights of each layer drawn uniformly."""
    scores = {n: torch.rand(w.shape, generator=generator).to(w.device) for n, w in prunable(model, head).items()}
    return Masks(model, {n: largest(s, keep) for n, s in scores.items()})


def largest(scores: Tensor, share: float) -> Tensor:
    """Mark the `share` of all entries with the highest scores, at least one."""
    count = max(1, round(share * scores.numel()))
    marks = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    marks[scores.flatten().topk(count).indices] = True
    return marks.view_as(scores)


def dense_copy(setting: Setting) -> nn.Module:
    """Return a copy of the base model on the setting's device."""
    return on_device(copy.deepcopy(setting.prunable.model), setting.device)


def fit_head(setting: Setting, model: nn.Module) -> None:
    """Give a network the closed-form head that MVP starts from, after its norms were re-estimated."""
    order = rng(setting.seed, "start").permutation(len(setting.train))[:START_IMAGES]
    sample = setting.train.subset(order)
    reestimate_norms(model, sample.images, setting.prunable.base, setting.device)
    set_head(model, ridge_head(model, sample, setting.prunable.base, setting.device).to(setting.device))


def source_of(setting: Setting, config: FitConfig, teacher: Tensor | None = None) -> BatchSource:
    """Return the batches that every method sees, with a teacher's logits `(N, C)` where the method is distilled."""
    return BatchSource(setting.train, setting.prunable.base, config, setting.device, setting.seed, teacher)
