"""The learning rates of the rivals, chosen on held-out training images of tasks that no table uses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from benchmarks.baselines.dlth import Dlth
from benchmarks.baselines.mest import Mest
from benchmarks.experiment import Context, Experiment, Row
from benchmarks.running import cases, try_rows, why_not
from benchmarks.store import counted
from benchmarks.targets import Setting, at_random
from mvp_edge.config import FitConfig

NAME = "rates"
RATES = (0.003, 0.01, 0.03, 0.1)
TASKS = 2
TASK_SEED = 4000  # neither a zoo's nor a table's
METHODS: dict[str, Callable[[Setting, FitConfig], nn.Module]] = {
    "mest": Mest(),
    "mest-random": Mest(start="random"),
    "dlth": Dlth(),
    "random": lambda setting, config: at_random(config)(setting),
}


def rows(context: Context) -> list[Row]:
    """Return one row for each method and rate."""
    missing = why_not(context, "cifar100")
    return [_row(context, name, rate, missing) for name in METHODS for rate in RATES]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not why_not(context, "cifar100"):
        tasks = cases(context, TASKS, split="held-out", seed=TASK_SEED)
        try_rows(NAME, [replace(r, dataset="cifar100") for r in rows], tasks)


def chosen(context: Context, method: str) -> dict[str, Any]:
    """Return the best recorded rate of a method, and where it comes from; 0.01, MVP's own, without records."""
    trials = context.store.trials(NAME)
    scores: dict[float, float] = {}
    for rate in RATES:
        top1 = [t["top1"] for t in counted(trials, _name(method, rate)) if t["status"] == "ok"]
        if top1:
            scores[rate] = statistics.mean(top1)
    if len(scores) < len(RATES):
        return {"lr": 0.01, "lr_from": "MVP's"}
    return {"lr": max(scores, key=lambda rate: (scores[rate], -rate)), "lr_from": "held-out training images"}


def _row(context: Context, name: str, rate: float, missing: str) -> Row:
    steps = context.steps(100)
    config = FitConfig(iterations=steps, lr=rate)
    method = METHODS[name]
    form = "sliced" if name == "random" else "masked"
    return Row(
        _name(name, rate), name.removesuffix("-random") if name != "random" else name, f"{name}, rate {rate:g}",
        lambda s: method(s, config), iterations=steps, hyper={"lr": rate, "split": "held-out"}, form=form,
        missing=missing, seconds=2.0 * steps if form == "masked" else 0.2 * steps,
    )  # fmt: skip


def _name(method: str, rate: float) -> str:
    return f"{method}-lr{rate:g}"


EXPERIMENT = Experiment(NAME, "which learning rate suits each rival (held-out images)?", "ours", 90, rows, run)
