"""Training of a network, and pruning during training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mvp_edge.config.choices import Importance, Norms, Optimizer, check, out_of_range, size_problems


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
        check(
            out_of_range(
                self, optimizer=Optimizer, norms=Norms, iterations="[0, inf]", batch_size="[2, inf]", lr="(0, 10]",
                momentum="[0, 1)", weight_decay="[0, inf)", warmup="[0, 1]", label_smoothing="[0, 1)",
                crop="[0, inf]", cutout="[0, inf]", distill="[0, 1]", temperature="(0, inf)",
            )
        )  # fmt: skip

    def to_recipe(self) -> dict[str, Any]:
        """Return a JSON-ready value that identifies members; values that were once the only ones are left out."""
        once = (("optimizer", "sgd"), ("norms", "batch"))
        return {k: v for k, v in asdict(self).items() if (k, v) not in once}


@dataclass(frozen=True)
class FitOverrides:
    """Settings that override the recipe for the kind of network (`training.recipes`); None keeps the recipe's."""

    iterations: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    cutout: int | None = None
    distill: float | None = None
    optimizer: Optimizer | None = None

    def __post_init__(self) -> None:
        self.over(FitConfig())

    def over(self, recipe: FitConfig) -> FitConfig:
        """Return a recipe with these settings.

        Raises:
            ConfigError: a value is out of its range.
        """
        return replace(recipe, **{k: v for k, v in asdict(self).items() if v is not None})


@dataclass(frozen=True)
class PruneSchedule:
    """When and how much is pruned.

    Attributes:
        keep: Fraction of every group's units that is kept at the end.
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
        check(size_problems(self) + out_of_range(self, every="[0, inf]", drop="(0, 1)", importance=Importance))


@dataclass(frozen=True)
class ScoreSchedule:
    """How AHNP's scores of heads and nodes are learned.

    Attributes:
        sparsity: Weight of the scores' L1 norm in the loss (lambda); the paper gives no value.
        threshold: Units with a lower score are cut (tau); the paper gives no value.
        lr: Peak learning rate of the scores.
        share: Fraction of the iterations until the target is reached; units still above the target are then cut at
            once.
    """

    sparsity: float = 1e-2
    threshold: float = 0.5
    lr: float = 0.05
    share: float = 0.1

    def __post_init__(self) -> None:
        check(out_of_range(self, sparsity="[0, inf)", threshold="(0, 1)", lr="(0, 1]", share="(0, 1)"))
