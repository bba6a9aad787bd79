"""Settings of a run, checked where they are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mvp_edge.errors import ConfigError

Similarity = Literal["leep", "wordnet"]
Vote = Literal["top", "sample"]
Voters = Literal["any", "narrow", "broad"]
Importance = Literal["activation", "taylor", "random"]


def check(problems: list[str]) -> None:
    """Raise one `ConfigError` that lists all problems, if there are any."""
    if problems:
        raise ConfigError("; ".join(problems))


@dataclass(frozen=True)
class FitConfig:
    """How a network is trained: SGD with momentum, warm-up, then a cosine to zero.

    Attributes:
        iterations: Optimiser steps.
        batch_size: Images a step.
        lr: Peak learning rate.
        momentum: Nesterov momentum.
        weight_decay: On weights only; never on norms and biases.
        warmup: Fraction of the iterations in which the rate rises linearly.
        label_smoothing: Of the cross-entropy.
        crop: Padding in pixels for random crops; 0 turns them off.
        cutout: Side in pixels of the square that Cutout blanks (DeVries and Taylor, 2017); 0 turns it off.
        distill: Weight of the distillation loss against the cross-entropy, in [0, 1].
        temperature: Softening of the teacher's and the student's outputs.
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

    def __post_init__(self) -> None:
        problems = []
        if self.iterations < 0:
            problems.append(f"iterations is {self.iterations}; it must be 0 or more")
        if self.batch_size < 2:
            problems.append(f"batch size is {self.batch_size}; it must be at least 2")
        if not 0 < self.lr <= 10:
            problems.append(f"learning rate is {self.lr}; it must be in (0, 10]")
        if not 0 <= self.distill <= 1:
            problems.append(f"distill is {self.distill}; it must be in [0, 1]")
        check(problems)


@dataclass(frozen=True)
class VoteConfig:
    """How the nearest tasks vote (Algorithm 1, lines 1-8)."""

    keep: float = 0.1
    align: int = 8
    neighbours: int = 5
    similarity: Similarity = "leep"
    voters: Voters = "any"
    vote: Vote = "top"
    temperature: float = 0.5

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.keep <= 1:
            problems.append(f"keep is {self.keep}; it must be in (0, 1], such as 0.1 to keep a tenth")
        if self.align < 1:
            problems.append(f"align is {self.align}; it must be at least 1")
        if self.neighbours < 1:
            problems.append(f"neighbours is {self.neighbours}; it must be at least 1")
        if not self.temperature > 0:
            problems.append(f"temperature is {self.temperature}; it must be above 0 (for its limit 0, use --vote top)")
        for value, kind in ((self.similarity, Similarity), (self.vote, Vote), (self.voters, Voters)):
            if value not in get_args(kind):
                problems.append(f"{value!r} is none of {', '.join(get_args(kind))}")
        check(problems)


@dataclass(frozen=True)
class PruneConfig:
    """Everything that `mvp-edge prune` is told."""

    task: Path
    data: str | None
    out: Path = Path("out")
    force: bool = False
    zoo: str | None = None
    vote: VoteConfig = VoteConfig()
    fit: FitConfig = FitConfig()
    device: str = "auto"
    seed: int = 0
    add_to_zoo: bool = False
