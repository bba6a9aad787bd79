"""The README's tables of the experiments: one line a row, as the records have it."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.registry import experiments
from benchmarks.store import Line, Store

HEAD = "| method | tasks | top-1 mean | sd | paper | nominal TFLOPs | measured TFLOPs | MMACs | seconds |"


def table(name: str, store: Store | None = None) -> str:
    """Return the table of an experiment, or say that it has not been run."""
    store = store or Store()
    lines = store.lines(name)
    if not any(line["status"] != "not-run" for line in lines):
        return f"Not run yet: `python -m benchmarks {name}`."
    rows = [HEAD, "|" + "---|" * (HEAD.count("|") - 1), *map(_row, lines)]
    for line in lines:
        if line["status"] != "ok":
            word = "not run" if line["status"] == "not-run" else "failed"
            rows += ["", f"{line['title']}: {word} ({line['reason']})."]
    return "\n".join(rows)


def _row(line: Line) -> str:
    form = {"masked": " (zeros, not smaller)", "whole": " (not smaller)", "tokens": " (fewer tokens)"}
    cells = [
        line["title"] + form.get(line["form"], ""),
        str(line["n_tasks"] or ""),
        _number(line["top1_mean"], "{:.2f}") or line["status"],
        _number(line["top1_sd"], "{:.2f}"),
        line["paper"],
        _number(line["nominal_tflops"], "{:.2f}"),
        _number(line["training_tflops"], "{:.2f}"),
        _number(line["macs"], "{:.1f}", 1e-6),
        _number(line["seconds"], "{:.0f}"),
    ]
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "" if value is None else form.format(value * factor)


def tables() -> dict[str, Callable[[], str]]:
    """Return the tables of all experiments by name."""
    return {name: (lambda name=name: table(name)) for name in experiments()}
