"""Experiments: rows of methods, tried on the same target tasks; what has a record is not run again."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.cost import CostMeter, nominal_tflops
from benchmarks.methods import top1
from benchmarks.records import FIGURES, RESULTS, Line, append_line, read_lines
from benchmarks.setting import TASK_SEED, Setting, load
from mvp_edge.build.members import build_specialists, sample_tasks
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import BuildConfig
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.environment import environment
from mvp_edge.core.errors import ConfigError, DataError, ZooError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import DataSource, open_source
from mvp_edge.models.macs import count_macs
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo, open_zoo

log = logging.getLogger("benchmarks")

Form = Literal["sliced", "masked", "whole", "tokens", "none"]
"""What makes a network cheap: smaller tensors, zeros in tensors of the old size, nothing, fewer tokens; no network."""


NOT_AT_HAND = (DataError, ConfigError, ZooError)
"""What is raised where data, a zoo or weights have to be given first."""


class NotApplicableError(Exception):
    """A row has no meaning for a task, such as a vote of neighbours where there are none."""


@dataclass(frozen=True, eq=False)
class Context:
    """What every experiment is given.

    Attributes:
        zoo: The zoo that votes unless a row names another.
        data: Directory of image folders, one for each data set; sets that it lacks are opened by name.
        out: Directory of the records.
        work: Directory of zoos and networks that experiments make for themselves.
        tasks: Target tasks, at most.
        scale: Factor of all iterations, members and epochs, for trying an experiment out.
        methods: Rows or methods to run; all if empty.
        folders: Where a data set or a zoo lies, by name.
    """

    zoo: Zoo
    data: Path | None
    out: Path
    work: Path
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
        """Return so many iterations (or members), scaled."""
        return max(least, round(count * self.scale))

    def source(self, dataset: str) -> DataSource:
        """Open a data set.

        Raises:
            DataError: it is neither at hand nor to be downloaded.
        """
        if dataset in self.folders:
            return open_source(str(self.folders[dataset]))
        if self.data is not None and (self.data / dataset).is_dir():
            return open_source(str(self.data / dataset))
        if dataset != "cifar100":
            raise DataError(f"no folder {dataset}/ below --data; put it there, or give --folder {dataset}=DIR")
        return open_source(dataset)

    def trials(self, experiment: str) -> list[Line]:
        """Return all trials of an experiment, oldest first."""
        return read_lines(self.out / "trials" / f"{experiment}.jsonl")

    def made_from(self, name: str, **settings: Any) -> Path:
        """Return where something is kept that is made once of the zoo's base and of settings: others make it anew."""
        value = json.dumps([self.zoo.base.sha256, self.scale, self.seed, settings], sort_keys=True)
        return self.work / f"{name}-{hashlib.sha256(value.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Row:
    """One row of a table: a method with its settings.

    Attributes:
        name: Tells the rows of an experiment apart.
        method: Family, as the records name it.
        run: Makes the network for a target task, or returns what a trial records.
        keep: Fraction that is kept: of every group's units where the form is `sliced`, of the weights where `masked`.
        dense_iterations: Iterations of the whole network to which its training amounts, by the paper's own rule.
        hyper: All other settings.
        votes: Whether a zoo votes, so that another zoo makes another row.
        zoo: Name of the zoo; the context's if empty.
        ways: Classes of a target task.
        tasks: Random class lists, those of the zoo's own specialists, or none: the row is made once.
        count: Target tasks, at most.
        split: Of the data set; `held-out` scores on a fifth of the training images.
        paper: The paper's own figure.
        product: Where something that is made once lies; it is made anew if that is not there.
        notes: Returns what else a trial records of its setting.
        trials: `EXPERIMENT/ROW` of another table whose trials these are.
    """

    name: str
    method: str
    title: str
    run: Callable[[Setting], nn.Module | Line] | None
    iterations: int = 0
    keep: float = 0.1
    dense_iterations: float = 0.0
    batch: int = 128
    hyper: Mapping[str, Any] = field(default_factory=dict)
    form: Form = "sliced"
    votes: bool = False
    zoo: str = ""
    dataset: str = "cifar100"
    ways: int = 5
    tasks: Literal["random", "members", "once"] = "random"
    count: int = 20
    split: str = "test"
    task_seed: int = TASK_SEED
    paper: str = ""
    product: Path | None = None
    notes: Callable[[Setting], dict[str, float]] | None = None
    trials: str = ""

    @property
    def place(self) -> tuple[Any, ...]:
        """What rows share that are tried on the same tasks."""
        return self.zoo, self.dataset, self.ways, self.tasks, self.count, self.split, self.task_seed


@dataclass(frozen=True)
class Experiment:
    """One question of the paper, or of ours.

    Attributes:
        name: What to type, and the name of its records.
        question: What it answers.
        source: Where the paper asks it; `ours` if it does not.
        rows: Returns the rows of its table, in the paper's order.
        plot: Draws its figure from its rows' titles and the trials, if it has one.
    """

    name: str
    question: str
    source: str
    rows: Callable[[Context], list[Row]]
    plot: Callable[[Sequence[Line], Sequence[Line], Path], None] | None = None


ZOOS: dict[str, Callable[[Context], Zoo]] = {}
"""Zoos that rows name, and what opens them; `benchmarks.experiments` fills it in."""


def carry_out(experiment: Experiment, context: Context) -> dict[str, str]:
    """Run what has no record yet and draw the figure; return why rows cannot be run here, by row."""
    rows = experiment.rows(context)
    write_rows(context.out / f"{experiment.name}.jsonl", rows)
    wanted = [r for r in rows if not context.methods or context.methods & {r.name, r.method}]
    reasons = run_rows(experiment.name, wanted, context)
    for name, reason in reasons.items():
        log.warning("%s: %s not run: %s", experiment.name, name, reason)
    if experiment.plot is not None and (trials := context.trials(experiment.name)):
        lines = read_lines(context.out / f"{experiment.name}.jsonl")
        experiment.plot(lines, trials, figure_of(context.out, experiment.name))
    return reasons


def figure_of(out: Path, experiment: str) -> Path:
    """Return where the figure of an experiment lies: on the pages, or beside records that are kept elsewhere."""
    return (FIGURES if out.resolve() == RESULTS.resolve() else out) / f"{experiment}.png"


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write titles and the paper's figures; rows of earlier code keep their place behind the row before them."""
    fields = ("title", "paper", "form", "dataset", "trials")
    lines = [{"row": r.name} | {f: getattr(r, f) for f in fields} for r in rows]
    names, before = [line["row"] for line in lines], None
    for old in read_lines(path):
        if old["row"] not in names:
            place = names.index(before) + 1 if before is not None else 0
            lines.insert(place, old)
            names.insert(place, old["row"])
        before = old["row"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def run_rows(experiment: str, rows: Sequence[Row], context: Context) -> dict[str, str]:
    """Try rows on their tasks, task by task, so that they can be compared whenever the run is stopped.

    Returns:
        Why rows cannot be run here, by row: data, a zoo or weights have to be given first.
    """
    reasons: dict[str, str] = {}
    for place in dict.fromkeys(r.place for r in rows):
        mine = [r for r in rows if r.place == place]
        try:
            zoo = ZOOS[mine[0].zoo](context) if mine[0].zoo else context.zoo
            tasks = [None] if mine[0].tasks == "once" else target_tasks(context, mine[0], zoo)
            prunable = context.prunable if zoo is context.zoo else PrunableModel.of(zoo.base, zoo.load_base())
        except NOT_AT_HAND as e:
            reasons |= {r.name: str(e) for r in mine}
            continue
        for task in tasks:
            setting = cache(partial(make_setting, context, mine[0], zoo, prunable, task))
            for row in mine:
                identity = identify(row, zoo, task, context.seed)
                if row.name in reasons or _is_done(row, context.trials(experiment), identity):
                    continue
                try:
                    trial = {"experiment": experiment, **identity, **measure(row, setting())}
                except NOT_AT_HAND as e:
                    reasons[row.name] = str(e)
                    continue
                append_line(context.out / "trials" / f"{experiment}.jsonl", trial)
                shown = ",".join(task.names) if task else "once"
                log.info("%s %s %s: %s (%s s)", experiment, row.name, shown, trial["top1"], trial["seconds"])
    return reasons


def target_tasks(context: Context, row: Row, zoo: Zoo) -> list[Task]:
    """Return a row's target tasks: random class lists that neither zoo has a member for, or those of its specialists.

    Raises:
        DataError: the data are not at hand.
        ConfigError: they have too few classes.
    """
    count = min(row.count, context.tasks)
    if row.tasks == "members":
        return [i.task for i in zoo.infos() if i.kind == "specialist"][:count]
    taken = {i.task.id for z in (zoo, context.zoo) for i in z.infos()}
    drawn = sample_tasks(context.source(row.dataset).classes, row.ways, count + len(taken), row.task_seed)
    return [t for t in drawn if t.id not in taken][:count]


def make_setting(context: Context, row: Row, zoo: Zoo, prunable: PrunableModel, task: Task | None) -> Setting:
    """Return what methods are given for a task; no images for what is made once."""
    if task is None:
        return Setting(zoo, prunable, Task(()), None, None, context.device, context.seed)  # pyright: ignore
    train, test = load(context.source(row.dataset), task, zoo.base.input_size, row.split)
    return Setting(zoo, prunable, task, train, test, context.device, context.seed)


def identify(row: Row, zoo: Zoo, task: Task | None, seed: int) -> Line:
    """Return what tells a trial from all others."""
    members = "\n".join([zoo.base.sha256, *zoo.ids()])
    return {
        "row": row.name,
        "base_sha256": zoo.base.sha256,
        "zoo_id": hashlib.sha256(members.encode()).hexdigest()[:12] if row.votes else "",
        "dataset": row.dataset,
        "task": task.id if task else "",
        "seed": seed,
        "iterations": row.iterations,
        "keep": row.keep,
        "hyper": json.loads(json.dumps({"batch": row.batch, **row.hyper})),  # as records have it
    }


def _is_done(row: Row, trials: Sequence[Line], identity: Line) -> bool:
    if row.run is None or row.trials:
        return True
    made = row.product is None or row.product.exists()
    return made and any(all(t[k] == v for k, v in identity.items()) for t in trials)


def measure(row: Row, s: Setting) -> Line:
    """Run a row on a task and return what a trial records."""
    about, base = environment(s.device), s.zoo.base
    threads = about["torch_threads"]
    where = f", {threads} thread{'s' * (threads > 1)}" if s.device.type == "cpu" else ""
    trial: Line = {
        "method": row.method, "base": base.name, "form": row.form, "members": len(s.zoo.ids()) if row.votes else 0,
        "device": f"{s.device.type} ({about.get('accelerator', about['processor'])}{where})", "environment": about,
        "classes": s.task.names, "top1": None, "nominal_tflops": None, "status": "ok", "reason": "",
    }  # fmt: skip
    begin = time.perf_counter()
    if row.tasks == "random":  # shared by several rows, so not in their time
        _ = row.votes and s.ranked, row.hyper.get("distill") and s.teacher
    trial["ranking_seconds"] = _since(begin)
    begin, is_resumed = time.perf_counter(), row.product is not None and row.product.exists()
    try:
        with CostMeter() as meter:
            made = row.run(s)  # pyright: ignore[reportOptionalCall]
    except NotApplicableError as e:
        return trial | {"status": "skipped", "reason": str(e), "seconds": _since(begin)}
    trial |= {"seconds": _since(begin), "training_tflops": round(meter.tflops, 5)}
    if is_resumed:  # an earlier run made a part of it
        trial |= {"seconds": None, "training_tflops": None}
    if not isinstance(made, nn.Module):
        return trial | made
    dense = count_macs(s.prunable.model, base.input_size)
    trial |= {
        "top1": top1(s, made), "n_test": len(s.test),
        "macs": count_macs(copy.deepcopy(made).to("cpu"), base.input_size),
        "nominal_tflops": round(nominal_tflops(dense, row.dense_iterations, row.batch), 5),
    }  # fmt: skip
    return trial | ({"notes": row.notes(s)} if row.notes else {})


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 2)


def fork(zoo: Zoo, path: Path, keeps: Callable[[MemberInfo], bool]) -> Zoo:
    """Return a zoo of the same base with those members of another that `keeps` accepts; one that exists is opened."""
    if not (path / "zoo.json").exists():
        (path / "members").mkdir(parents=True, exist_ok=True)
        shutil.copy(zoo.path / "base.safetensors.gz", path)
        for info in filter(keeps, zoo.infos()):
            places = [root / "members" / info.id for root in (zoo.path, zoo.directory)]
            shutil.copytree(next(p for p in places if p.is_dir()), path / "members" / info.id, dirs_exist_ok=True)
        shutil.copy(zoo.path / "zoo.json", path)
    return open_zoo(str(path))


def grown(context: Context, zoo: Zoo, config: BuildConfig, teacher: Teacher | None = None) -> Line:
    """Build a zoo's specialists as far as they are missing; return what a trial records of them."""
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    build_specialists(
        zoo, prunable, context.source("cifar100"), config, device=context.device, progress=SilentProgress(),
        teacher=teacher,
    )  # fmt: skip
    scores = [i.top1 for i in zoo.infos() if i.kind == "specialist" and i.top1 is not None]
    return {"top1": round(sum(scores) / len(scores), 2), "notes": {"members": len(scores)}}


def complete(context: Context, path: Path, members: int, experiment: str) -> Zoo:
    """Open a zoo that an experiment makes.

    Raises:
        ConfigError: it is not there, or lacks members.
    """
    zoo = open_zoo(str(path)) if (path / "zoo.json").exists() else None
    have = sum(i.kind == "specialist" for i in zoo.infos()) if zoo else 0
    if zoo is None or have < members:
        raise ConfigError(f"its zoo has {have} of {members} members; run: python -m benchmarks {experiment}")
    return zoo
