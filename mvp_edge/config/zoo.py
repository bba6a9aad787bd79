"""How zoos and what they hold are made: base models and members."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from mvp_edge.config.choices import Parent, Pruner, check
from mvp_edge.config.training import FitConfig, FitOverrides, PruneSchedule, ScoreSchedule


@dataclass(frozen=True)
class BuildConfig:
    """A run of `zoo build`.

    Attributes:
        members: Specialists wanted with these settings, those included that are there already.
        ways: Classes of a specialist's task.
        schedule: How much is kept, and how IFP prunes.
        fit: How they are trained meanwhile; overrides leave the rest to the recipe for the kind of network.
        generalist_fit: How members for all classes are trained, likewise.
        parent: What a member is pruned from: the smallest `generalist` member that is larger, where there is one, or
            always the whole `base` model, as in the paper.
        seed: Of the tasks and of each training run.
        method: How members are pruned: IFP, AHNP, or what suits the base (`auto`): AHNP if it has attention.
        scores: How AHNP prunes.
    """

    members: int = 60
    ways: int = 5
    schedule: PruneSchedule = PruneSchedule()
    fit: FitConfig | FitOverrides = FitOverrides()
    generalist_fit: FitConfig | FitOverrides = FitOverrides()
    parent: Parent = "generalist"
    seed: int = 0
    method: Pruner = "auto"
    scores: ScoreSchedule = ScoreSchedule()

    def __post_init__(self) -> None:
        problems = []
        if self.method not in get_args(Pruner):
            problems.append(f"{self.method!r} is none of {', '.join(get_args(Pruner))}")
        if self.members < 0:
            problems.append(f"members is {self.members}; it must be 0 or more")
        if self.ways < 2:
            problems.append(f"ways is {self.ways}; it must be at least 2")
        check(problems)


@dataclass(frozen=True)
class PretrainConfig:
    """A run of `pretrain`.

    Attributes:
        base: Registered name or `timm:NAME`: what to train.
        data: Directory or data-set name.
        out: The safetensors file to write.
        epochs: Passes over the training images.
        fit: Everything else, or what differs from the recipe for the kind of network; the iterations are derived from
            the epochs.
        init: Weights to start from, in the same format.
        save_every: Steps between two checkpoints.
        small_size: Shorter side in pixels of the images in the first epochs, for progressive resizing; 0 turns it off.
        small_epochs: How many of the epochs these are.
        teacher: A base model or a zoo that is asked about every augmented batch; the weight of its answer is that of
            distillation.
    """

    base: str
    data: str
    out: Path
    epochs: float = 30
    fit: FitConfig | FitOverrides = FitOverrides()
    init: Path | None = None
    device: str = "auto"
    seed: int = 0
    save_every: int = 200
    small_size: int = 0
    small_epochs: float = 0
    teacher: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.epochs < math.inf:
            problems.append(f"epochs is {self.epochs}; it must be above 0 and finite")
        if self.small_size < 0:
            problems.append(f"small size is {self.small_size}; it must be at least 1 pixel, or 0 for full size only")
        if not 0 <= self.small_epochs <= self.epochs:
            problems.append(
                f"small epochs is {self.small_epochs}; it must be in [0, {self.epochs:g}], the epochs in all"
            )
        if (self.small_size > 0) != (self.small_epochs > 0):
            problems.append(
                "a small size and the number of small epochs only make sense together; give both or neither"
            )
        check(problems)
