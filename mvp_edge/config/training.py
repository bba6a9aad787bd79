"""How a network is trained, and pruned meanwhile."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from mvp_edge.config.choices import Importance, Norms, Optimizer, check, size_problems


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained: warm-up, then a cosine to zero.

    Attributes:
        iterations: Optimiser steps.
        batch_size: Images a step.
        lr: Peak learning rate.
        momentum: Nesterov momentum, or AdamW's beta 1.
        weight_decay: On weights only; never on norms and biases.
        warmup: Fraction of the iterations in which the rate rises linearly.
        label_smoothing: Of the cross-entropy.
        crop: Padding in pixels for random crops; 0 turns them off.
        cutout: Side in pixels of the square that Cutout blanks (DeVries and Taylor, 2017); 0 turns it off.
        distill: Weight of the distillation loss against the cross-entropy, in [0, 1].
        temperature: Softening of the teacher's and the student's outputs.
        optimizer: `sgd`, or `adamw` for networks with attention.
        norms: Statistics of batch norms: of the `batch`, or `fixed` as they are, so that training on a few classes
            does not move them.
    """

    iterations: int = 100
    batch_size: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.0
    label_smoothing: float = 0.0
    crop: int = 4
    cutout: int = 0
    distill: float = 0.0
    temperature: float = 2.0
    optimizer: Optimizer = "sgd"
    norms: Norms = "batch"

    def __post_init__(self) -> None:
        problems = []
        if self.optimizer not in get_args(Optimizer):
            problems.append(f"{self.optimizer!r} is none of {', '.join(get_args(Optimizer))}")
        if self.norms not in get_args(Norms):
            problems.append(f"norms is {self.norms!r}; it must be one of {', '.join(get_args(Norms))}")
        if self.iterations < 0:
            problems.append(f"iterations is {self.iterations}; it must be 0 or more")
        if self.batch_size < 2:
            problems.append(f"batch size is {self.batch_size}; it must be at least 2")
        if not 0 < self.lr <= 10:
            problems.append(f"learning rate is {self.lr}; it must be in (0, 10]")
        for name in ("distill", "warmup"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                problems.append(f"{name} is {value}; it must be in [0, 1]")
        for name in ("momentum", "label_smoothing"):
            if not 0 <= (value := getattr(self, name)) < 1:
                problems.append(f"{name} is {value}; it must be in [0, 1)")
        if not 0 <= self.weight_decay < math.inf:
            problems.append(f"weight_decay is {self.weight_decay}; it must be 0 or more")
        if not 0 < self.temperature < math.inf:
            problems.append(f"temperature is {self.temperature}; it must be above 0 and finite")
        for name in ("crop", "cutout"):
            if (value := getattr(self, name)) < 0:
                problems.append(f"{name} is {value}; it must be 0 or more pixels")
        check(problems)

    def to_recipe(self) -> dict[str, Any]:
        """Return a JSON-ready value that names a zoo's members; what there was only one of once goes without saying."""
        once = (("optimizer", "sgd"), ("norms", "batch"))
        return {k: v for k, v in asdict(self).items() if (k, v) not in once}


@dataclass(frozen=True)
class FitOverrides:
    """What a user wants of a `FitConfig`; the rest is left to the recipe for the network (`training.recipes`)."""

    iterations: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    cutout: int | None = None
    distill: float | None = None
    optimizer: Optimizer | None = None

    def __post_init__(self) -> None:
        self.over(FitConfig())

    def over(self, recipe: FitConfig) -> FitConfig:
        """Return a recipe with what the user wants.

        Raises:
            ConfigError: a value is out of its range.
        """
        return replace(recipe, **{k: v for k, v in asdict(self).items() if v is not None})


@dataclass(frozen=True)
class PruneSchedule:
    """When and how much is pruned.

    Attributes:
        keep: Fraction of every group's units that is left at the end.
        channel_multiple: Kept counts are multiples of this many channels.
        every: Steps between two pruning events (the paper's h); 0 takes a hundredth of the iterations, which is what
            the paper's own cost columns imply: pruning ends within the first tenth, the rest is fine-tuning.
        drop: Fraction of the remaining units dropped at each event (the paper's p).
        importance: `activation` as in the paper, `taylor` (Molchanov et al., 2019), or `random`.
    """

    keep: float = 0.1
    channel_multiple: int = 8
    every: int = 0
    drop: float = 0.2
    importance: Importance = "activation"

    def __post_init__(self) -> None:
        problems = size_problems(self.keep, self.channel_multiple)
        if self.every < 0:
            problems.append(f"every is {self.every}; it must be 0 or more steps")
        if not 0 < self.drop < 1:
            problems.append(f"drop is {self.drop}; it must be in (0, 1)")
        check(problems)


@dataclass(frozen=True)
class ScoreSchedule:
    """How AHNP's scores of heads and nodes are learned.

    Attributes:
        sparsity: Weight of the scores' L1 norm in the loss (lambda); which the paper does not give.
        threshold: Units whose score is less are cut off (tau); the paper does not give it.
        lr: Peak learning rate of the scores.
        share: Fraction of the iterations in which the target is to be reached; what is left to cut then goes at once.
    """

    sparsity: float = 1e-2
    threshold: float = 0.5
    lr: float = 0.05
    share: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.sparsity < math.inf:
            problems.append(f"sparsity is {self.sparsity}; it must be 0 or more")
        for name in ("threshold", "share"):
            if not 0 < (value := getattr(self, name)) < 1:
                problems.append(f"{name} is {value}; it must be in (0, 1)")
        if not 0 < self.lr <= 1:
            problems.append(f"learning rate of scores is {self.lr}; it must be in (0, 1]")
        check(problems)
