"""Unstructured sparsity: zeros in a network of the old size, kept zero through training. DLTH and MEST, anew.

The network keeps its size, and nothing that this tool is for runs faster.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.models.architectures import set_head
from mvp_edge.models.heads import ridge_head
from mvp_edge.training.loop import BatchSource, fit, reestimate_norms
from mvp_edge.training.optimizers import make_optimizer

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


@dataclass(frozen=True)
class Dlth:
    """Dual lottery ticket hypothesis: random weights are kept, the others driven to zero, the rest is fine-tuned.

    The paper counts its training as a network with a tenth of the operations; what is measured is the whole network's.

    Attributes:
        keep: Fraction of every layer's weights, drawn uniformly.
        share: Part of the iterations in which the other weights are driven to zero; the rest fine-tunes.
        decay: The penalty that they end with: its gradient is `decay * weight`, growing linearly from zero. The
            published run holds 1.0 for 40,000 iterations; here it must act in tens of them.

    References:
        Bai et al., "Dual Lottery Ticket Hypothesis", 2022.
    """

    keep: float = 0.1
    share: float = 0.5
    decay: float = 4.0

    def __call__(self, setting: Setting, config: FitConfig) -> nn.Module:
        """Train a sparse copy of the base model on the setting's task."""
        model = dense_copy(setting)
        masks = random_masks(
            model, setting.prunable.head, self.keep, torch_rng(setting.seed, f"dlth/{setting.task.id}")
        )  # fmt: skip
        fit_head(setting, model)
        first = max(1, round(self.share * config.iterations))
        extrude(setting, model, masks, replace(config, iterations=first), self.decay)
        masks.apply()
        rest = replace(config, iterations=config.iterations - first)
        optimizer = make_optimizer(model, rest)
        fit(
            model, source_of(replace(setting, seed=setting.seed + 1), rest), rest, optimizer=optimizer,
            after_step=lambda step, loss: masks.apply(optimizer),
        )  # fmt: skip
        return model


def extrude(setting: Setting, model: nn.Module, masks: Masks, config: FitConfig, decay: float) -> None:
    """Train a network while a growing penalty drives the dropped weights, and only those, towards zero."""
    strength = 0.0

    def before_step(step: int) -> None:
        nonlocal strength
        strength = decay * (step + 1) / config.iterations

    def penalised(weight: nn.Parameter, dropped: Tensor):
        return lambda gradient: gradient + strength * weight.detach() * dropped

    with ExitStack() as hooks:
        for _, weight, keep in masks.weights():
            hooks.callback(weight.register_hook(penalised(weight, ~keep)).remove)
        # The rate rises with the penalty: a cosine would end the pressure on the weights just when it is strongest.
        steady = replace(config, warmup=1.0)
        fit(model, source_of(setting, steady), steady, optimizer=make_optimizer(model, steady), before_step=before_step)


@dataclass(frozen=True)
class Mest:
    """Elastic mutation (the EM variant): small weights drop out, random ones come in, never more than the budget.

    The schedule is scaled to the length of the run. Its nominal cost is as the paper counts it: 10 % more than that of
    a network with so small a fraction of its units.

    Attributes:
        keep: Density of the masks.
        start: Whether the first mask holds the base's largest weights or random ones.
        extra: How much further than `keep` each mutation prunes, in three phases: the published run prunes to 0.92,
            0.91 and 0.90, changing at 9/16 and 12/16 of its length.
        every: Mutations come every so many steps; 0 takes 1/32 of the run, as published (every 5 of 160 epochs).

    References:
        Yuan et al., "MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge", 2021.
    """

    keep: float = 0.1
    start: str = "magnitude"
    extra: tuple[float, float, float] = (0.02, 0.01, 0.0)
    every: int = 0

    def __call__(self, setting: Setting, config: FitConfig) -> nn.Module:
        """Train a sparse copy of the base model on the setting's task."""
        model, head = dense_copy(setting), setting.prunable.head
        generator = torch_rng(setting.seed, f"mest/{setting.task.id}")
        masks = (
            magnitude_masks(model, head, self.keep)
            if self.start == "magnitude"
            else random_masks(model, head, self.keep, generator)
        )
        masks.apply()
        fit_head(setting, model)
        optimizer = make_optimizer(model, config)
        every = self.every or max(1, config.iterations // 32)

        def after_step(step: int, loss: Tensor) -> None:
            masks.apply(optimizer)
            if (step + 1) % every == 0 and (further := self.extra[phase(step, config.iterations)]) > 0:
                mutate(masks, self.keep, self.keep - further, generator)
                masks.apply(optimizer)

        fit(model, source_of(setting, config), config, optimizer=optimizer, after_step=after_step)
        return model


def phase(step: int, iterations: int) -> int:
    """Return which third of the schedule a step is in."""
    done = step / max(1, iterations)
    return 0 if done < 9 / 16 else 1 if done < 12 / 16 else 2


@torch.no_grad()
def mutate(masks: Masks, keep: float, down_to: float, generator: torch.Generator) -> None:
    """Drop the smallest living weights until `down_to` is left, then let as many random dead ones live, from zero.

    Weights that were just dropped may come back, as others may; the density of every layer ends where it began.
    """
    for name, weight, alive in list(masks.weights()):
        count = max(1, round(keep * alive.numel()))
        score = torch.where(alive, weight.detach().abs(), -1.0)
        left = largest(score, max(1 / alive.numel(), down_to)) & alive
        lots = torch.rand(alive.shape, generator=generator).to(alive.device)
        lots[left] = -1.0  # cannot be drawn: it lives already
        born = torch.zeros_like(alive).flatten()
        born[lots.flatten().topk(count - int(left.sum())).indices] = True
        weight.mul_(left)
        masks.keep[name] = left | born.view_as(left)
