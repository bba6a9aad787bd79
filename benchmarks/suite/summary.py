"""One line for each row of a table, from its trials."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks.suite.experiment import Row
from benchmarks.suite.store import Line, counted

REQUIRED = (
    "experiment", "method", "base", "dataset", "iterations", "keep", "n_tasks", "seeds", "top1_mean", "top1_sd",
    "seconds", "device", "commit", "dirty", "status", "reason",
)  # fmt: skip
MADE = ("members", "added")
"""Where a trial tells how many members it made: in its notes, or, if it made what was wanted, in its settings."""
STATUS = ("ok", "failed", "not-run")
AVERAGED: dict[str, Callable[[Sequence[float]], float]] = {
    "seconds": statistics.median, "ranking_seconds": statistics.median, "macs": statistics.mean,
    "training_tflops": statistics.mean,
}  # fmt: skip
"""How a row's figures come from its trials'; times are medians, as other jobs may have held some trials up."""


def summarise(experiment: str, rows: Sequence[Row], trials: Sequence[Line], base: str) -> list[Line]:
    """Return one line for each row: what its trials say, or that there are none and why."""
    return [_summary(experiment, row, counted(trials, row.name), base) for row in rows]


def _summary(experiment: str, row: Row, trials: Sequence[Line], base: str) -> Line:
    good = [t for t in trials if t["status"] == "ok"]
    skipped = [t for t in trials if t["status"] == "skipped"]
    bad = [t for t in trials if t["status"] == "failed"]
    top1 = [t["top1"] for t in good if t["top1"] is not None]
    last = trials[-1] if trials else None
    status, reason = "ok", ""
    if not trials:
        status, reason = "not-run", row.missing or f"not started yet; run: python -m benchmarks {experiment}"
    elif not good and not bad:
        status, reason = "not-run", skipped[-1]["reason"]
    elif bad:
        status, reason = "failed", f"{len(bad)} of {len(trials)} trials: {bad[-1]['reason']}"
    line: Line = {
        "experiment": experiment,
        "row": row.name,
        "method": row.method,
        "base": last["base"] if last else row.base or base,
        "dataset": row.dataset,
        "iterations": last["iterations"] if last else row.iterations,
        "keep": row.keep,
        "n_tasks": _tasks(good),
        "seeds": sorted({t["seed"] for t in good}),
        "top1_mean": round(statistics.mean(top1), 2) if top1 else None,
        "top1_sd": round(statistics.stdev(top1), 2) if len(top1) > 1 else None,
        "seconds": None,
        "device": "; ".join(dict.fromkeys(t["device"] for t in trials)) or None,
        "commit": last["commit"] if last else None,
        "dirty": any(t["dirty"] for t in trials) if last else None,
        "status": status,
        "reason": reason,
        "title": row.title,
        "form": row.form,
        "paper": row.paper,
        "hyper": last["hyper"] if last else dict(row.hyper),
        "nominal_tflops": last["nominal_tflops"] if last else None,
        "tasks": sorted({t["task"] for t in good}),
    }
    for key, average in AVERAGED.items():
        values = [t[key] for t in good if t.get(key) is not None]
        line[key] = round(average(values), 3) if values else None
    for key in ("values", "notes"):
        if found := _mean_of_maps([t[key] for t in good if t.get(key)]):
            line[key] = found
    return line


def _tasks(good: Sequence[Line]) -> int:
    """Return over how many tasks a row's mean is: target tasks, or those of the members that a trial has made."""
    made = [m for t in good for told in (t.get("notes", {}), t["hyper"]) for key in MADE if (m := told.get(key))]
    return made[0] if made and good[0]["task"] == "" else len({t["task"] for t in good})


def _mean_of_maps(maps: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Average each key over the maps that have a number for it; None where none has."""
    result: dict[str, float | None] = {}
    for key in dict.fromkeys(k for m in maps for k in m):
        values = [v for m in maps if (v := m.get(key)) is not None]
        result[key] = round(statistics.mean(values), 4) if values else None
    return result
