"""MEST: sparse training that drops small weights and grows others at random, never denser than its budget.

Masks are unstructured: the network keeps its size, and nothing that this tool is for runs faster. Its nominal cost is
as the paper counts it: 10 % more than that of a network with so small a fraction of its units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.baselines.masking import (
    Masks,
    dense_copy,
    fit_head,
    largest,
    magnitude_masks,
    random_masks,
    source_of,
)
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.streams import torch_rng
from mvp_edge.training.loop import fit, make_optimizer


@dataclass(frozen=True)
class Mest:
    """Elastic mutation (the EM variant), its schedule scaled to the length of the run.

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
