"""What an experiment is: rows of methods, tried on the same target tasks, and what they are given."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.setting import Setting
from benchmarks.suite.store import Line, Store
from mvp_edge.data import DataSource, open_source
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import Zoo

Form = Literal["sliced", "masked", "whole", "tokens", "none"]
"""What makes a network cheap: smaller tensors, zeros in tensors of the old size, nothing, fewer tokens; no network."""


@dataclass(frozen=True)
class Row:
    """One row of a table: a method with its settings.

    Attributes:
        name: Tells the rows of an experiment apart.
        method: Family, as the records name it.
        title: For people.
        run: Makes the network for a target task.
        iterations: Optimiser steps on the target task.
        keep: Fraction that is kept: of every group's units where the form is `sliced`, of the weights where `masked`.
        dense_iterations: Iterations of the whole network to which its training amounts, by the paper's own rule.
        batch: Images a step.
        hyper: All other settings.
        form: What makes the network cheap.
        zoo: Whether a zoo votes, so that another zoo makes another row.
        dataset: Where the target tasks come from.
        paper: The paper's own figure.
        missing: Why it cannot be run here; empty if it can.
        base: Name of the base model if it is not that of the zoo that votes.
        shared: Whether method and settings say all there is, so that another experiment's trial of them serves as well.
        seconds: Guess of its time, until there is a trial to go by.
        notes: Returns what else a trial tells of its setting.
    """

    name: str
    method: str
    title: str
    run: Callable[[Setting], nn.Module] | None
    iterations: int = 0
    keep: float = 0.1
    dense_iterations: float = 0.0
    batch: int = 128
    hyper: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "sliced"
    zoo: bool = False
    dataset: str = "cifar100"
    paper: str = ""
    missing: str = ""
    base: str = ""
    shared: bool = False
    seconds: float = 20.0
    notes: Callable[[Setting], dict[str, float]] | None = None


class Clock:
    """Says whether there is time for something; without a limit there always is."""

    def __init__(self, minutes: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = None if minutes is None else now() + 60 * minutes

    @property
    def is_limited(self) -> bool:
        """Whether there is an end at all."""
        return self._end is not None

    def part(self, share: float) -> Clock:
        """Return a clock that allows that share of the time that is left."""
        left = None if self._end is None else max(0.0, self._end - self._now()) / 60
        return Clock(None if left is None else left * share, self._now)

    def allows(self, seconds: float) -> bool:
        """Say whether `seconds` more fit in."""
        return self._end is None or self._now() + seconds <= self._end


@dataclass(frozen=True, eq=False)
class Context:
    """What every experiment is given.

    Attributes:
        zoo: The zoo that votes.
        data: Directory of image folders, one for each data set; sets that it lacks are opened by name.
        store: Records.
        work: Where experiments keep zoos and networks that they make for themselves.
        tasks: Target tasks; each experiment may take fewer, never more.
        scale: Factor of all iterations, members and epochs, for trying an experiment out.
        methods: Rows or methods to run; all if empty.
        folders: Where a data set lies if not below `data`, such as `imagenet`.
    """

    zoo: Zoo
    data: Path | None
    store: Store
    work: Path
    clock: Clock = field(default_factory=Clock)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tasks: int = 20
    seed: int = 0
    scale: float = 1.0
    methods: frozenset[str] = frozenset()
    folders: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def prunable(self) -> PrunableModel:
        """The zoo's base model."""
        return PrunableModel.of(self.zoo.base, self.zoo.load_base())

    def steps(self, count: int, least: int = 2) -> int:
        """Return so many iterations (or members, or epochs), scaled."""
        return max(least, round(count * self.scale))

    def source(self, dataset: str) -> DataSource:
        """Open a data set.

        Raises:
            DataError: it is neither at hand nor to be downloaded.
        """
        if dataset in self.folders:
            return open_source(str(self.folders[dataset]))
        found = self.data is not None and (self.data / dataset).is_dir()
        return open_source(str(self.data / dataset) if self.data and found else dataset)

    def wants(self, row: Row) -> bool:
        """Say whether a row was asked for."""
        return not self.methods or bool(self.methods & {row.name, row.method})


@dataclass(frozen=True)
class Experiment:
    """One question of the paper, or of ours.

    Attributes:
        name: What to type, and the name of its records.
        question: What it answers.
        source: Where the paper asks it; `ours` if it does not.
        minutes: About how long all of it takes on one thread.
        rows: Returns the rows of its table, in the paper's order.
        run: Runs what has no trial yet, while the clock allows.
        plot: Draws its figure from its rows and their trials, if it has one.
        table: Returns its table's lines in Markdown from these, if its columns are not the usual ones.
        note: Returns what a reader of its table must know, from its rows and all records; empty if nothing.
    """

    name: str
    question: str
    source: str
    minutes: float
    rows: Callable[[Context], list[Row]]
    run: Callable[[Context, Sequence[Row]], None]
    plot: Callable[[Sequence[Line], Sequence[Line], Path], None] | None = None
    table: Callable[[Sequence[Line], Sequence[Line]], list[str]] | None = None
    note: Callable[[Sequence[Line], Store], str] | None = None


def made_from(zoo: Zoo, **settings: Any) -> str:
    """Return a short name of a zoo's base and of settings, for what is made of them once: others make it anew."""
    value = json.dumps([zoo.base.sha256, settings], sort_keys=True)
    return hashlib.sha256(value.encode()).hexdigest()[:8]


def zoo_id(zoo: Zoo) -> str:
    """Return a short name of who may vote: the zoo's base and its members."""
    return hashlib.sha256("\n".join([zoo.base.sha256, *zoo.ids()]).encode()).hexdigest()[:12]
