"""The trials of a row that count together."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from benchmarks.records import Line

SAME = ("base_sha256", "zoo_id", "iterations", "keep", "hyper")
"""What trials of a row must share to count together."""


def counted(trials: Sequence[Line], row: str) -> list[Line]:
    """Return a row's trials: the last one of each task and seed, all of one base, zoo and settings.

    Those of the newest count once they have as many tasks as the older ones had.
    """
    groups: dict[str, dict[tuple[Any, ...], Line]] = {}
    for trial in trials:
        if trial["row"] == row and trial["status"] == "ok":
            same = json.dumps([trial[k] for k in SAME], sort_keys=True)
            tasks = groups.pop(same, {})  # put in again at the end, so that the newest is the last
            groups[same] = tasks | {(trial["dataset"], trial["task"], trial["seed"]): trial}
    return list(max(reversed(groups.values()), key=len, default={}).values())


def top1_by_task(trials: Sequence[Line], row: str) -> dict[str, float]:
    """Return what the trials of a row that count have scored, by task."""
    return {t["task"]: t["top1"] for t in counted(trials, row) if t.get("top1") is not None}


def in_common(scores: Iterable[Collection[str]]) -> list[str]:
    """Return the tasks that all rows have which have any, in a fixed order."""
    found = [set(tasks) for tasks in scores if len(tasks)]
    return sorted(set.intersection(*found)) if found else []
