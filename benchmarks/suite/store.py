"""Where results live: one line for each trial, and one line for each row of a table, derived from the trials.

results/trials/NAME.jsonl   a trial: one row's method on one target task; appended, never changed
results/NAME.jsonl          a row: mean and standard deviation over its trials; written anew after every run

Measurements that are no experiments, written by `benchmarks.records`, lie in results/measurements/.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.records import FIGURES, RESULTS, code
from mvp_edge.core.atomic import write_atomically

Line = dict[str, Any]
SAME = ("base_sha256", "zoo_id", "settings")


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

    def figure(self, experiment: str) -> Path:
        """Return where the figure of an experiment is: on the pages, or beside the records if these are elsewhere."""
        return (FIGURES if self.root.resolve() == RESULTS.resolve() else self.root) / f"{experiment}.png"

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


def top1_by_task(trials: Sequence[Line], row: str) -> dict[str, float]:
    """Return what the trials of a row that count have scored, by task."""
    return {t["task"]: t["top1"] for t in counted(trials, row) if t.get("top1") is not None}


def in_common(scores: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the tasks that all rows have which have any, in a fixed order."""
    found = [set(tasks) for tasks in scores if tasks]
    return sorted(set.intersection(*found)) if found else []


def mean_over(tasks: Collection[str], scores: Mapping[str, float]) -> str:
    """Return a row's mean over some tasks as a cell; an empty one if there are none, or not all have a score."""
    return f"{statistics.mean(scores[t] for t in tasks):.2f}" if tasks and scores.keys() >= set(tasks) else ""


def _read(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
