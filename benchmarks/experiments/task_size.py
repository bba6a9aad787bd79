"""Table 4: tasks of three and of ten classes, each with a zoo of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.experiments import zoos
from benchmarks.experiments.rates import suited, unchosen
from benchmarks.methods import SPECIALISTS
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import ifp_row, mvp_row
from benchmarks.suite.running import cases, try_rows, why_not

NAME = "task-size"
TASKS = 5
SETTINGS = {"10-way": (10, 0.15, 190, 1500), "3-way": (3, 0.05, 60, 500)}
"""Classes, keep, iterations of MVP, iterations of IFP."""
PAPER = {"10-way": {"ifp": "84.29", "mvp": "83.53"}, "3-way": {"ifp": "88.75", "mvp": "89.25"}}


def rows(context: Context) -> list[Row]:
    """Return IFP's long and short runs and MVP's short ones for each size."""
    found = []
    for name, (ways, keep, few, many) in SETTINGS.items():
        missing = why_not(context, "cifar100", ways)
        title = f"{name}, keep {keep:g}: IFP"
        found += [
            ifp_row(context, many, keep=keep, name=f"{name}-ifp-{many}", title=f"{title}, {many} iterations",
                    paper=PAPER[name]["ifp"], missing=missing),
            ifp_row(context, many, keep=keep, name=f"{name}-ifp-rate-{many}", rate=suited(context, "ifp").lr,
                    title=f"{title}, {many} iterations, a rate that suits it",
                    missing=missing or unchosen(context, "ifp")),
            ifp_row(context, few, keep=keep, name=f"{name}-ifp-{few}", title=f"{title}, {few} iterations",
                    missing=missing),
        ]  # fmt: skip
        voting: dict[str, Any] = {
            "vote": replace(SPECIALISTS, keep=keep),
            "missing": missing or zoos.missing(context, name),
        }
        rated: dict[str, Any] = voting | {"missing": voting["missing"] or unchosen(context, "mvp")}
        title = f"{name}, keep {keep:g}: MVP, {few} iterations"
        found += [
            mvp_row(context, few, name=f"{name}-mvp-{few}", title=title, paper=PAPER[name]["mvp"], **voting),
            mvp_row(context, few, name=f"{name}-mvp-rate-{few}", title=f"{title}, a rate that suits it",
                    fit=suited(context, "mvp"), **rated),
        ]  # fmt: skip
    return found


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing, each size with its zoo."""
    for name, (ways, *_) in SETTINGS.items():
        if not why_not(context, "cifar100", ways):
            zoo = None if zoos.missing(context, name) else zoos.opened(context, name)
            tasks = cases(context, TASKS, ways=ways, zoo=zoo)
            try_rows(NAME, [r for r in rows if r.name.startswith(name)], tasks)


EXPERIMENT = Experiment(NAME, "does it hold for smaller and larger tasks?", "Table 4", 45, rows, run)
