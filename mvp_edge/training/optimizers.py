"""Optimisers, and which of them suits a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from mvp_edge.config import FitConfig, FitOverrides, Optimizer
from mvp_edge.models.attention import attentions
from mvp_edge.training.recipes import Purpose, recipe

SECOND_MOMENT = 0.999  # AdamW's beta 2; beta 1 is the settings' momentum


def resolve_fit(fit: FitConfig | FitOverrides, purpose: Purpose, model: nn.Module) -> FitConfig:
    """Return how a network is trained: settings as they are, or the recipe for its kind with what the user set.

    Networks with attention are trained with AdamW, as in the paper, and so are ready-made bodies, which SGD's rates
    ruin; all others with SGD.
    """
    if isinstance(fit, FitConfig):
        return fit
    suited: Optimizer = "adamw" if purpose == "photographs" or attentions(model) else "sgd"
    return fit.over(recipe(purpose, suited if fit.optimizer is None else fit.optimizer))


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """Return an optimiser; only weights of layers decay: no norms, biases, position embeddings or class tokens.

    A parameter group may hold `scale`, the ratio of its learning rate to that of the settings.

    timm's `create_optimizer_v2` makes the same optimisers, but lets decay whatever a network does not list in
    `no_weight_decay`, such as FastViT's layer scales and XCiT's temperatures; with our groups it saves no line.
    """
    named = list(model.named_parameters())
    decay = [p for n, p in named if p.ndim > 1 and n.endswith("weight")]
    free = [p for n, p in named if not (p.ndim > 1 and n.endswith("weight"))]
    # One pass over the weights: a fourth of the time on a CPU. Elsewhere torch chooses.
    fused = True if all(p.device.type == "cpu" for _, p in named) else None
    groups, momentum = _groups(decay, free, config), config.momentum
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(momentum, SECOND_MOMENT), fused=fused)


def _groups(decay: list[nn.Parameter], free: list[nn.Parameter], config: FitConfig) -> list[dict[str, Any]]:
    return [{"params": decay, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]


class ChainedOptimizer(torch.optim.Optimizer):
    """Several optimisers of different parameters as one; groups and state are shared with them, not copied."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([g for part in parts for g in part.param_groups], {})
        self._parts = [p for part in parts for p in (part._parts if isinstance(part, ChainedOptimizer) else (part,))]
        self.state = defaultdict(dict)
        for part in self._parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step with each of them."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss
