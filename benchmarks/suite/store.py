"""Where results live: one line for each trial, and one line for each row of a table, derived from the trials.

results/trials/NAME.jsonl   a trial: one row's method on one target task; appended, never changed
results/NAME.jsonl          a row: mean and standard deviation over its trials; written anew after every run
"""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from benchmarks.records import RESULTS, code
from mvp_edge.files.atomic import write_atomically

if TYPE_CHECKING:
    from benchmarks.suite.experiment import Row

Line = dict[str, Any]
REQUIRED = (
    "experiment", "method", "base", "dataset", "iterations", "keep", "n_tasks", "seeds", "top1_mean", "top1_sd",
    "seconds", "device", "commit", "status", "reason",
)  # fmt: skip
STATUS = ("ok", "failed", "not-run")
SAME = ("base_sha256", "zoo_id", "settings")
AVERAGED: dict[str, Callable[[Sequence[float]], float]] = {
    "seconds": statistics.median, "ranking_seconds": statistics.median, "macs": statistics.mean,
    "training_tflops": statistics.mean,
}  # fmt: skip
"""How a row's figures come from its trials'; times are medians, as other jobs may have held some trials up."""


@dataclass(frozen=True)
class Store:
    """The records below a directory."""

    root: Path = RESULTS

    def trials(self, experiment: str) -> list[Line]:
        """Return all trials of an experiment, oldest first."""
        return _read(self.root / "trials" / f"{experiment}.jsonl")

    def elsewhere(self, experiment: str, wanted: Line) -> Line | None:
        """Return the first successful trial of another experiment with all that is `wanted`, or None."""
        for path in sorted((self.root / "trials").glob("*.jsonl")):
            for trial in _read(path) if path.stem != experiment else ():
                if trial["status"] == "ok" and all(trial.get(k) == v for k, v in wanted.items()):
                    return trial
        return None

    def lines(self, experiment: str) -> list[Line]:
        """Return the rows of an experiment's table, in its order."""
        return _read(self.root / f"{experiment}.jsonl")

    def add(self, experiment: str, trial: Line) -> None:
        """Append a trial, with the time and the commit."""
        path = self.root / "trials" / f"{experiment}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **code()}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"experiment": experiment, **made, **trial}) + "\n")

    def write(self, experiment: str, lines: Sequence[Line]) -> None:
        """Write the rows of a table, all or nothing."""
        self.root.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_atomically(self.root / f"{experiment}.jsonl", text.encode())

    @contextlib.contextmanager
    def claim(self, experiment: str, key: str) -> Iterator[bool]:
        """Hold a trial while it runs; False if another process runs it. A process that dies frees its claim."""
        locks = self.root / "trials" / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{experiment}-{key}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def counted(trials: Sequence[Line], row: str) -> list[Line]:
    """Return a row's trials: the last one of each task and seed, all of one base, zoo and settings.

    Those of the newest count once they have as many tasks as the older ones had.
    """
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], Line]] = {}
    for trial in trials:
        if trial["row"] == row:
            same = tuple(trial[k] for k in SAME)
            tasks = groups.pop(same, {})  # put in again at the end, so that the newest is the last
            groups[same] = tasks | {(trial["dataset"], trial["task"], trial["seed"]): trial}
    return list(max(reversed(groups.values()), key=len, default={}).values())


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
        "n_tasks": len({t["task"] for t in good}),
        "seeds": sorted({t["seed"] for t in good}),
        "top1_mean": round(statistics.mean(top1), 2) if top1 else None,
        "top1_sd": round(statistics.stdev(top1), 2) if len(top1) > 1 else None,
        "seconds": None,
        "device": "; ".join(dict.fromkeys(t["device"] for t in trials)) or None,
        "commit": last["commit"] if last else None,
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


def _mean_of_maps(maps: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Average each key over the maps that have a number for it; None where none has."""
    result: dict[str, float | None] = {}
    for key in dict.fromkeys(k for m in maps for k in m):
        values = [v for m in maps if (v := m.get(key)) is not None]
        result[key] = round(statistics.mean(values), 4) if values else None
    return result


def _read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
