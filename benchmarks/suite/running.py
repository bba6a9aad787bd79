"""Trying rows on target tasks: what is done already is passed over, what fails is recorded as failed."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import nn

from benchmarks.setting import TASK_SEED, Setting, load
from benchmarks.suite.cost import CostMeter, nominal_tflops
from benchmarks.suite.experiment import Context, Row, zoo_id
from benchmarks.suite.store import Line
from mvp_edge.build.sampling import sample_tasks
from mvp_edge.core.environment import environment
from mvp_edge.core.errors import ConfigError, DataError, MvpEdgeError
from mvp_edge.models.macs import count_macs
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.zoo.store import Zoo

log = logging.getLogger("benchmarks")


IN_PARTS: Line = {"seconds": None, "training_tflops": None}
"""What is found of things that several runs have made, each going on where the last one was stopped."""


class NotApplicableError(Exception):
    """A row has no meaning for a task, such as a vote of neighbours where there are none; it counts as nothing."""


FAILURES = (MvpEdgeError, RuntimeError, ValueError, LookupError, ArithmeticError, NotImplementedError)


@dataclass(frozen=True, eq=False)
class Case:
    """One target task with the zoo that may vote for it; images are read when they are first asked for."""

    context: Context
    zoo: Zoo
    prunable: PrunableModel
    task: Task
    dataset: str
    split: str = "test"

    @cached_property
    def setting(self) -> Setting:
        """What every method is given."""
        source = self.context.source(self.dataset)
        train, test = load(source, self.task, self.zoo.base.input_size, self.split)
        return Setting(self.zoo, self.prunable, self.task, train, test, self.context.device, self.context.seed)

    @cached_property
    def dense_macs(self) -> int:
        """Multiply-adds of the whole base for one image."""
        return count_macs(self.prunable.model, self.zoo.base.input_size)


def cases(
    context: Context, count: int, *, ways: int = 5, dataset: str = "cifar100", zoo: Zoo | None = None,
    split: str = "test", seed: int = TASK_SEED,
) -> list[Case]:  # fmt: skip
    """Return the first target tasks of a data set that the zoo was not made for.

    The split `held-out` trains on four fifths of the training images and scores on the rest.

    Raises:
        DataError: the data are not at hand.
        ConfigError: they have too few classes.
    """
    zoo = zoo or context.zoo
    prunable = context.prunable if zoo is context.zoo else PrunableModel.of(zoo.base, zoo.load_base())
    taken = {i.task.id for i in zoo.infos()} | {i.task.id for i in context.zoo.infos()}
    drawn = sample_tasks(context.source(dataset).classes, ways, min(count, context.tasks) + len(taken), seed)
    tasks = [t for t in drawn if t.id not in taken][: min(count, context.tasks)]
    return [Case(context, zoo, prunable, task, dataset, split) for task in tasks]


def try_rows(experiment: str, rows: Sequence[Row], tasks: Sequence[Case]) -> None:
    """Try every row on every task, task by task, so that whenever time is up the rows can be compared."""
    for case in tasks:
        for row in rows:
            try_row(experiment, row, case)
        case.__dict__.pop("setting", None)  # frees its images


def try_row(experiment: str, row: Row, case: Case) -> None:
    """Try one row on one task unless that was done, here or for another table, or there is no time for it."""
    context = case.context
    if row.run is None or row.missing or not context.wants(row):
        return
    identity = identify(row, case)
    with context.store.claim(experiment, f"{row.name}-{case.task.id}-{context.seed}") as mine:
        if not mine or _is_done(context, experiment, identity):
            return
        # What another table has is taken over in time only, too: shared rows would have more tasks than others.
        if not context.clock.allows(_expected(context, experiment, row)):
            return
        if not _taken_over(row, experiment, context, identity):
            trial = identity | measure(row, case)
            context.store.add(experiment, trial)
            shown = f"{trial['top1']:.1f}" if trial["status"] == "ok" else f"{trial['status']}: {trial['reason']}"
            log.info("%s %s %s: %s (%.0f s)", experiment, row.name, ",".join(case.task.names), shown, trial["seconds"])


def identify(row: Row, case: Case) -> Line:
    """Return what tells a trial from all others."""
    return {
        "row": row.name,
        "base_sha256": case.zoo.base.sha256,
        "zoo_id": zoo_id(case.zoo) if row.zoo else "",
        "dataset": row.dataset,
        "task": case.task.id,
        "seed": case.context.seed,
        "settings": settings_id(row),
    }


def settings_id(row: Row) -> str:
    """Return a short name of all settings of a row: with others it is tried anew."""
    value = [row.iterations, row.keep, row.batch, dict(row.hyper)]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def measure(row: Row, case: Case) -> Line:
    """Run a row on a task and return what came out, or why nothing did."""
    context = case.context
    trial = described(row, case.zoo, context.device) | {"classes": case.task.names}
    begin = time.perf_counter()
    try:
        dense = case.dense_macs
        setting = case.setting
        if row.zoo:
            _ = setting.ranked  # several rows share it
        if row.hyper.get("distill"):
            _ = setting.base_teacher if row.hyper.get("teacher") == "base" else setting.teacher
        trial["ranking_seconds"] = _since(begin)
        begin = time.perf_counter()
        with CostMeter() as meter:
            model = _run(row, setting)
        trial["seconds"] = _since(begin)
        trial |= {
            "status": "ok",
            "reason": "",
            "top1": round(accuracy(predict(model, setting.test.images, case.zoo.base, context.device),
                                   setting.test).top1, 2),
            "n_test": len(setting.test),
            "macs": count_macs(copy.deepcopy(model).to("cpu"), case.zoo.base.input_size),
            "training_tflops": round(meter.tflops, 5),
            "nominal_tflops": round(nominal_tflops(dense, row.dense_iterations, row.batch), 5),
        }  # fmt: skip
        if row.notes is not None:
            trial["notes"] = row.notes(setting)
    except NotApplicableError as e:
        trial |= {"status": "skipped", "reason": str(e)}
    except FAILURES as e:
        trial |= _failed(row, e, begin)
    return trial


def try_once(
    experiment: str, row: Row, context: Context, zoo: Zoo, make: Callable[[], Line], task: str = "",
    anew: bool = False,
) -> None:  # fmt: skip
    """Do what makes no network for a task and record it: what it cost and what `make` returns, or why it failed.

    Args:
        experiment: Whose record it is.
        row: What is made.
        context: Records and clock.
        zoo: Whose base it is made from.
        make: Makes it.
        task: What it is made for, if for something.
        anew: Make it whatever the records say, because what was made is not here.
    """
    identity = {
        "row": row.name, "base_sha256": zoo.base.sha256, "zoo_id": zoo_id(zoo) if row.zoo else "",
        "dataset": row.dataset, "task": task, "seed": context.seed, "settings": settings_id(row),
    }  # fmt: skip
    if row.missing or not context.wants(row) or not context.clock.allows(row.seconds):
        return
    with context.store.claim(experiment, f"{row.name}-{task}-{context.seed}") as mine:
        if not mine or (_is_done(context, experiment, identity) and not anew):
            return
        begin = time.perf_counter()
        try:
            with CostMeter() as meter:
                found = make()
            cost = {"seconds": _since(begin), "training_tflops": round(meter.tflops, 5)}
            outcome = {"status": "ok", "reason": ""} | cost | found
        except FAILURES as e:
            outcome = _failed(row, e, begin)
        context.store.add(experiment, identity | described(row, zoo, context.device) | outcome)
        if outcome["status"] != "ok":
            log.info("%s %s: %s: %s", experiment, row.name, outcome["status"], outcome["reason"])


def described(row: Row, zoo: Zoo, device: torch.device) -> Line:
    """Return what a trial tells of itself before it has run."""
    return {
        "method": row.method, "base": zoo.base.name, "iterations": row.iterations, "keep": row.keep,
        "hyper": {"batch": row.batch, **row.hyper}, "form": row.form, "members": len(zoo.ids()) if row.zoo else 0,
        "device": device_name(device), "environment": _environment(device), "top1": None, "seconds": 0.0,
        "nominal_tflops": None,
    }  # fmt: skip


def why_not(context: Context, dataset: str, ways: int = 5) -> str:
    """Say why there are no tasks of a data set here; empty if there are."""
    try:
        cases(context, 1, ways=ways, dataset=dataset)
    except (DataError, ConfigError) as e:
        return str(e).splitlines()[0]
    return ""


def device_name(device: torch.device) -> str:
    """Return a device as the records name it."""
    found = _environment(device)
    count = found["torch_threads"]
    threads = f", {count} thread{'s' * (count > 1)}" if device.type == "cpu" else ""
    return f"{device.type} ({found.get('accelerator', found['processor'])}{threads})"


@cache
def _environment(device: torch.device) -> Line:
    return environment(device)


def _since(begin: float) -> float:
    return round(time.perf_counter() - begin, 2)


def _failed(row: Row, error: Exception, begin: float) -> Line:
    log.debug("%s failed", row.name, exc_info=True)
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return {"status": "failed", "reason": reason, "seconds": _since(begin)}


def _run(row: Row, setting: Setting) -> nn.Module:
    assert row.run is not None
    return row.run(setting)


def _is_done(context: Context, experiment: str, identity: Line) -> bool:
    """Say whether a trial exists; failed ones are tried again."""
    return any(
        t["status"] != "failed" and all(t[k] == v for k, v in identity.items())
        for t in context.store.trials(experiment)
    )


def _taken_over(row: Row, experiment: str, context: Context, identity: Line) -> bool:
    """Copy another experiment's trial of the same method, settings, task, base and zoo, if there is one."""
    wanted = {k: v for k, v in identity.items() if k != "row"} | {"method": row.method}
    found = context.store.elsewhere(experiment, wanted) if row.shared else None
    if found is not None:
        context.store.add(experiment, found | identity | {"experiment": experiment, "from": found["experiment"]})
    return found is not None


def _expected(context: Context, experiment: str, row: Row) -> float:
    """Return about how many seconds a row takes: the median of its trials on this device, or the row's own guess."""
    done = [
        t["seconds"] for t in context.store.trials(experiment)
        if t["row"] == row.name and t["status"] == "ok" and t["environment"]["device"] == str(context.device)
    ]  # fmt: skip
    return statistics.median(done) if done else row.seconds
