"""DLTH (random sparse tickets): weights drawn at random are regularised to zero, dropped, and the rest is fine-tuned.

Masks are unstructured: the network keeps its size, and nothing that this tool is for runs faster. The paper counts its
training as a network with a tenth of the operations; what is measured is that of the whole network.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from torch import Tensor, nn

from benchmarks.baselines.masking import Masks, dense_copy, fit_head, random_masks, source_of
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.streams import torch_rng
from mvp_edge.training.loop import fit, make_optimizer


@dataclass(frozen=True)
class Dlth:
    """Dual lottery ticket hypothesis.

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
