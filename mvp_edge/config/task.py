"""Settings of `mvp-edge prune`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mvp_edge.config.choices import (
    ChannelMultiple,
    InputFormat,
    Method,
    Precision,
    Schedule,
    Similarity,
    Vote,
    Voters,
    check,
    out_of_range,
    size_problems,
)
from mvp_edge.config.training import FitConfig, FitOverrides
from mvp_edge.names.tasks import Task

_LABEL_UNITS = {"latency_ms": (1, "ms"), "macs": (1e6, "MMACs"), "params": (1e3, "kparams"), "size_kib": (1, "KiB")}


@dataclass(frozen=True)
class VoteConfig:
    """Vote of the nearest members (Algorithm 1, lines 1-8).

    Attributes:
        method: `mvp`: the most voted units of each group, the same fraction of every group unless a budget says
            otherwise. `smsp`: one round over all groups at once: the units with the highest similarity-weighted
            fraction of the neighbours that keep them, wherever they are (our reading of SMSP).
        keep: Fraction of every group's units to keep; of all units together for `smsp`.
        channel_multiple: Kept counts are multiples of this many channels; `auto` raises them where that costs no
            time on this machine.
        neighbours: Number of members that vote.
        similarity: LEEP on the task's images, or WordNet on the class names; `auto` is LEEP if there are images.
        voters: Members that may vote: `specialist` as in the paper, `generalist`, or `any`. `auto` is the one largest
            generalist within the size that knows all classes, which was best on the held-out tasks, or `any` if the
            zoo has none.
        vote: The units with the most votes, or a sample as in Equation 1.
        temperature: Tau of Equation 1.
    """

    method: Method = "mvp"
    keep: float = 0.1
    channel_multiple: ChannelMultiple = 8
    neighbours: int = 5
    similarity: Similarity = "auto"
    voters: Voters = "auto"
    vote: Vote = "top"
    temperature: float = 0.5

    def __post_init__(self) -> None:
        ranges = {"neighbours": "[1, inf]", "temperature": "(0, inf]"}
        words = {"similarity": Similarity, "vote": Vote, "voters": Voters, "method": Method}
        check(size_problems(self) + out_of_range(self, **ranges, **words))


@dataclass(frozen=True)
class Budget:
    """Upper limits of a delivered model, at least one; None is no limit.

    Attributes:
        latency_ms: Median time of one image on this machine, ONNX Runtime, one thread.
        macs: Multiply-adds of one image, as measured.
        params: Parameters.
        size_kib: Size of `model.onnx` in KiB (1024 bytes).
        typed: Limits by name as typed, such as `2MiB`, for the label.
    """

    latency_ms: float | None = None
    macs: float | None = None
    params: float | None = None
    size_kib: float | None = None
    typed: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        wrong = [f"{k} is {v}; it must be above 0 and finite" for k, v in self.given.items() if not 0 < v < math.inf]
        check(wrong or ([] if self.given else ["a budget needs at least one limit"]))

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = {name: getattr(self, name) for name in _LABEL_UNITS}
        return {k: v for k, v in values.items() if v is not None}

    @property
    def label(self) -> str:
        """A short name, such as `1ms` or `2MMACs-300KiB`."""
        return "-".join(self.typed.get(name) or self._shown(name, value) for name, value in self.given.items())

    def _shown(self, name: str, value: float) -> str:
        factor, unit = _LABEL_UNITS[name]
        return f"{value / factor:g}{unit}"


@dataclass(frozen=True)
class PruneConfig:
    """Settings of a run of `prune`.

    Attributes:
        task: The file of the class list, or its classes.
        fit: Fine-tuning; overrides keep the rest of the recipe for the kind of network. With `distill` 0 a ready-made
            network has no teacher.
        input: Input of the delivered file: RGB in [0, 1] as float32 `(N, 3, H, W)`, or raw uint8 `(N, H, W, 3)`. Both
            are normalised inside the file.
        schedule: `auto` keeps only fine-tuning that does no harm on images left out of it. With few images a pruned
            member is trained at a lower rate, and cross-validation decides how far; of what training changes in a
            ready-made network half is kept, a quarter with few images, or three quarters with a teacher. `fixed` uses
            `fit` as it is and keeps all of the change.
        precision: A second file beside `model.onnx`, which computes in float32: none (`fp32`), half precision, INT8, or
            (`auto`) INT8 if it passes the accuracy and size gate.
        max_drop: Points of top-1 below the base's at its own pixels that a ready-made body may be expected to have.
        unknown: Whether a file of a ready-made network has a second output: whether a picture shows any of the classes.
        base: In place of `zoo`: a base by name or file (`models.bases.load_base`), used as it is at fewer pixels.
        weights: Local file with the weights of the base.
        none: Directory of pictures of none of the classes, which set the threshold of that.
        group_by: `folder` or a regular expression of file names: files of a group go to one side when the test split is
            made from the training images.
        thumbnails: Whether the report shows test images.
    """

    task: Path | Task
    data: str | None
    out: Path = Path("out")
    force: bool = False
    zoo: str | None = None
    base: str | None = None
    weights: Path | None = None
    vote: VoteConfig = VoteConfig()
    budget: Budget | None = None
    fit: FitConfig | FitOverrides = FitOverrides()
    device: str = "auto"
    seed: int = 0
    add_to_zoo: bool = False
    input: InputFormat = "float32-nchw"
    precision: Precision = "auto"
    schedule: Schedule = "auto"
    max_drop: float = 1.0
    unknown: bool = True
    none: str | None = None
    group_by: str | None = None
    thumbnails: bool = True

    def __post_init__(self) -> None:
        problems = out_of_range(self, max_drop="[0, 100]", input=InputFormat, precision=Precision, schedule=Schedule)
        if self.fit.distill:
            problems.append(f"distill is {self.fit.distill}; give 0 or leave it out: a teacher comes where it helps")
        if self.weights is not None and self.base is None:
            problems.append(f"--weights {self.weights} needs the name of its network; add --base timm:NAME")
        if self.none is not None and not self.unknown:
            problems.append("--none sets the threshold of what --no-unknown leaves out; leave out one of the two")
        check(problems)
