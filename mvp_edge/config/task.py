"""How a model is made for a task: `mvp-edge prune`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

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
    size_problems,
)
from mvp_edge.config.training import FitConfig, FitOverrides
from mvp_edge.names.tasks import Task

_LABEL_UNITS = {"latency_ms": (1, "ms"), "macs": (1e6, "MMACs"), "params": (1e3, "kparams"), "size_kib": (1, "KiB")}


@dataclass(frozen=True)
class VoteConfig:
    """How the nearest tasks vote (Algorithm 1, lines 1-8).

    Attributes:
        method: `mvp`: the most voted units of each group, the same fraction of every group unless a budget says
            otherwise. `smsp`: one round over all groups at once: the units with the highest similarity-weighted
            fraction of the neighbours that keep them, wherever they are (our reading of SMSP).
        keep: Fraction of every group's units to keep; of all units together for `smsp`.
        channel_multiple: Kept counts are multiples of this many channels; `auto` raises them where that costs no
            time on this machine.
        neighbours: How many of the nearest members vote.
        similarity: What is near: LEEP on the task's images, or WordNet on the class names; `auto` is LEEP where there
            are images.
        voters: Members that may vote: `specialist` as in the paper, `generalist`, or `any`. `auto` leaves it to
            one generalist that knows all classes, the largest that fits inside the size asked for, which won on
            the held-out tasks that we tried; `any` where the zoo has none.
        vote: The units with most votes, or a sample as in Equation 1.
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
        problems = size_problems(self.keep, self.channel_multiple)
        if self.neighbours < 1:
            problems.append(f"neighbours is {self.neighbours}; it must be at least 1")
        if not self.temperature > 0:
            problems.append(f"temperature is {self.temperature}; it must be above 0 (for its limit 0, use --vote top)")
        literals = ((self.similarity, Similarity), (self.vote, Vote), (self.voters, Voters), (self.method, Method))
        for value, kind in literals:
            if value not in get_args(kind):
                problems.append(f"{value!r} is none of {', '.join(get_args(kind))}")
        check(problems)


@dataclass(frozen=True)
class Budget:
    """The most that a delivered model may cost; None where there is no limit, but at least one is given.

    Attributes:
        latency_ms: Median time of one image on this machine, ONNX Runtime, one thread.
        macs: Multiply-adds of one image, as measured.
        params: Parameters.
        size_kib: Size of `model.onnx` in KiB (1024 bytes).
        typed: Limits by name as they were typed, such as `2MiB`, where the label should say it so.
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
    """Everything that `mvp-edge prune` is told.

    Attributes:
        task: The class list's file, or its classes as they were typed.
        fit: How it is fine-tuned; overrides leave the rest to the recipe for the kind of network.
        input: What the delivered file takes: RGB in [0, 1] as float32 `(N, 3, H, W)`, or raw uint8 `(N, H, W, 3)`, as a
            camera or a decoder gives it. Both normalise inside.
        schedule: `auto` fine-tunes a network that works already more gently where images are few, and keeps as much of
            it as images left out gain by; `fixed` takes `fit` as it is.
        precision: What is written beside `model.onnx`, which is always float32: nothing (`fp32`), a half-precision
            file, an INT8 file, or (`auto`) an INT8 file if it earns its place.
    """

    task: Path | Task
    data: str | None
    out: Path = Path("out")
    force: bool = False
    zoo: str | None = None
    vote: VoteConfig = VoteConfig()
    budget: Budget | None = None
    fit: FitConfig | FitOverrides = FitOverrides()
    device: str = "auto"
    seed: int = 0
    add_to_zoo: bool = False
    input: InputFormat = "float32-nchw"
    precision: Precision = "auto"
    schedule: Schedule = "auto"

    def __post_init__(self) -> None:
        given = ((self.input, InputFormat), (self.precision, Precision), (self.schedule, Schedule))
        problems = [f"{v!r} is none of {', '.join(get_args(kind))}" for v, kind in given if v not in get_args(kind)]
        if self.fit.distill:
            problems.append(f"distill is {self.fit.distill}; prune trains without a teacher, so it must be 0")
        check(problems)
