"""How networks are trained for what, by optimiser: the one place that these defaults come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mvp_edge.config import FitConfig, Optimizer

Purpose = Literal["pretrain", "prune", "photographs", "specialist", "generalist"]

_SGD: dict[Purpose, FitConfig] = {
    "pretrain": FitConfig(lr=0.1, warmup=0.1, label_smoothing=0.1, cutout=8),
    "prune": FitConfig(lr=0.03, warmup=0.1),
    "photographs": FitConfig(lr=0.003, warmup=0.1, batch_size=32, norms="fixed", distill=0.5),
    "specialist": FitConfig(iterations=1000, lr=0.005),
    "generalist": FitConfig(iterations=5000, lr=0.1, warmup=0.05, weight_decay=2e-4, distill=0.5),
}
# 2e-4 for fine-tuning and 5e-5 for pruning are the paper's (Sections 5.1 and 3.1); the decay is that of DeiT, which it
# follows (Touvron et al., 2021).
_ADAMW: dict[Purpose, FitConfig] = {
    purpose: replace(fit, optimizer="adamw", lr=lr, weight_decay=0.05)
    for (purpose, fit), lr in zip(_SGD.items(), (1e-3, 2e-4, 3e-4, 5e-5, 1e-3), strict=True)
}
_RECIPES: dict[Optimizer, dict[Purpose, FitConfig]] = {"sgd": _SGD, "adamw": _ADAMW}


def recipe(purpose: Purpose, optimizer: Optimizer) -> FitConfig:
    """Return the settings for training a network with an optimiser.

    Args:
        purpose: `pretrain` a base model, fine-tune what `prune` assembled, train a ready-made body on `photographs`, or
            make a `specialist` or `generalist`.
        optimizer: SGD suits convolutional networks, AdamW those with attention.
    """
    return _RECIPES[optimizer][purpose]
