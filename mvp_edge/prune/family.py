"""Models of several sizes for one task: one ranking and one vote, many budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mvp_edge.config import Budget, PruneConfig, check
from mvp_edge.core.output import result_directory
from mvp_edge.core.progress import Progress, SilentProgress, Stopwatch
from mvp_edge.names.tasks import Task
from mvp_edge.prune.request import check_place
from mvp_edge.prune.run import make, prepare, size
from mvp_edge.report import render_family, write_json

FILES = ("index.json", "index.html")


def compress_family(
    config: PruneConfig,
    budgets: Sequence[Budget],
    progress: Progress | None = None,
    began: float | None = None,
    task: Task | None = None,
) -> dict[str, Any]:
    """Make a model for each budget, each in a directory named after it, and an index that compares them.

    Args:
        config: What to do; its own budget is not looked at.
        budgets: At least one; no two alike.
        progress: Who is told how far it is.
        began: When the job began, by `time.perf_counter`, if that was earlier.
        task: What `check_request` returned, if it was asked; the class list is not read again then.

    Returns:
        What `index.json` holds.

    Raises:
        MvpEdgeError: an input cannot be used, a budget cannot be met, or the family is to be added to a zoo; nothing is
            written then.
    """
    labels = [b.label for b in budgets]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    problems = [f"budget {label} is given twice" for label in twice] or ([] if budgets else ["no budget is given"])
    if config.add_to_zoo and labels:
        one = config.out / labels[0]
        problems.append(f"a family is not added to a zoo; add one of its models with: mvp-edge zoo add {one}")
    check(problems)
    progress = progress or SilentProgress()
    clock = Stopwatch(began)
    check_place(config)
    configs = [replace(config, budget=b, out=config.out / b.label) for b in budgets]
    prepared = prepare(configs[0], progress, clock, task)
    with clock.time("size"):  # all of them first: a budget out of reach is known before anything is trained
        sizings = [size(prepared, each, progress) for each in configs]
    models = []
    with result_directory(config.out, lambda: check_place(config)) as directory:
        for each, sizing in zip(configs, sizings, strict=True):
            place = directory / each.out.name
            place.mkdir()
            report = make(prepared, sizing, each, place, progress, Stopwatch()).report
            models.append(_entry(each.out.name, report))
        index = {
            "task": report["task"],
            "base": report["base"],
            "models": _with_front(models),
            "out": str(config.out),
            "files": [*FILES, *(f"{m['directory']}/" for m in models)],
            "seed": config.seed,
            "seconds": {k: round(v, 3) for k, v in clock.seconds.items()} | {"total": round(clock.total, 3)},
            "environment": report["environment"],
            "warnings": _warnings(models),
        }
        write_json(index, directory / "index.json")
        render_family(index, directory / "index.html")
    return index


def _entry(directory: str, report: dict[str, Any]) -> dict[str, Any]:
    return {
        "directory": directory,
        "budget": report["budget"],
        "top1": report["accuracy"]["top1"],
        "n": report["accuracy"]["n"],
        "latency_ms": report["latency_ms"]["pruned"]["median"],
        "size_kib": round(report["bytes"]["onnx"] / 1024, 2),
        "macs": report["macs"],
        "params": report["params"],
        "keep": report["keep"]["achieved"],
        "warnings": report["warnings"],
    }


def _warnings(models: Sequence[dict[str, Any]]) -> list[str]:
    """Return each warning once, with the models that it is about; what is said of all needs no names."""
    about: dict[str, list[str]] = {}
    for m in models:
        for text in m["warnings"]:
            about.setdefault(text, []).append(m["directory"])
    return [text if 1 < len(names) == len(models) else f"{', '.join(names)}: {text}" for text, names in about.items()]


def _with_front(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mark the models that no other beats in both accuracy and cost; where accuracy is unknown, there is no telling."""
    known = [m for m in models if m["top1"] is not None]

    def beaten(one: dict[str, Any], cost: str) -> bool:
        return any(
            m["top1"] >= one["top1"] and m[cost] <= one[cost] and (m["top1"], m[cost]) != (one["top1"], one[cost])
            for m in known
        )

    return [{**m, "front": [c for c in ("latency_ms", "size_kib") if m in known and not beaten(m, c)]} for m in models]
