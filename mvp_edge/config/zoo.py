"""Settings of `zoo build` and `pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mvp_edge.config.choices import Parent, Pruner, check, out_of_range
from mvp_edge.config.training import FitConfig, FitOverrides, PruneSchedule, ScoreSchedule


@dataclass(frozen=True)
class BuildConfig:
    """A run of `zoo build`.

    Attributes:
        members: Number of specialists with these settings, existing ones included.
        ways: Classes of a specialist's task.
        schedule: Size of the members, and settings of IFP.
        fit: Training of specialists; overrides keep the rest of the recipe for the kind of network.
        generalist_fit: Training of generalists, likewise.
        parent: Network that a member is pruned from: the smallest larger `generalist`, if there is one, or always the
            `base` model, as in the paper.
        seed: Seed of the tasks and of each training run.
        method: IFP, AHNP, or `auto`: AHNP for bases with attention, else IFP.
        scores: Settings of AHNP.
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
        check(out_of_range(self, members="[0, inf]", ways="[2, inf]", method=Pruner, parent=Parent))


@dataclass(frozen=True)
class PretrainConfig:
    """A run of `pretrain`.

    Attributes:
        base: Registered name or `timm:NAME`.
        data: Directory or data-set name.
        out: The safetensors file to write.
        epochs: Passes over the training images.
        fit: Other settings of training, or overrides of the recipe for the kind of network; the iterations follow from
            the epochs.
        init: Weights to start from, in the same format.
        save_every: Steps between two checkpoints.
        small_size: Shorter side in pixels of the images in the first epochs, for progressive resizing; 0 turns it off.
        small_epochs: Number of these epochs.
        teacher: A base model or a zoo, for the teacher logits of every augmented batch; `fit.distill` is their weight.
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
        problems = out_of_range(self, epochs="(0, inf)", small_size="[0, inf]", small_epochs=f"[0, {self.epochs:g}]")
        if (self.small_size > 0) != (self.small_epochs > 0):
            problems.append("small size and small epochs belong together; give both or neither")
        check(problems)
