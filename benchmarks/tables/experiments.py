"""Tables of the experiments: one line a row, as the records have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.registry import experiments
from benchmarks.suite.store import Line, Store, mean_over, top1_by_task

HEAD = "| method | tasks | top-1 mean | sd | paper | nominal TFLOPs | measured TFLOPs | MMACs | seconds |"


def table(name: str, store: Store | None = None) -> str:
    """Return the table of an experiment, or say that it has not been run."""
    store = store or Store()
    lines = store.lines(name)
    told = [line for line in lines if line["status"] != "not-run" or line["paper"]]  # the others are named below
    if not told:
        return "\n".join([f"Not run yet: `python -m benchmarks {name}`.", *_reasons(lines)])
    trials = store.trials(name)
    if own := experiments()[name].table:
        shown = own(lines, trials)
    else:
        shown = [HEAD, _rule(HEAD), *map(_row, told), *_on_the_same_tasks(lines, trials)]
    note = experiments()[name].note
    text = note(lines, store) if note else ""
    return "\n".join([*shown, *(["", text] if text else []), *_reasons(lines), *_figure(name, store)])


def _on_the_same_tasks(lines: Sequence[Line], trials: Sequence[Line]) -> list[str]:
    """Compare the rows that had few tasks with all others on these very tasks: a column for each such set of tasks."""
    top1 = {line["row"]: top1_by_task(trials, line["row"]) for line in lines}

    sets = sorted(dict.fromkeys(frozenset(scores) for scores in top1.values() if scores), key=len, reverse=True)
    sets = [few for few in sets if any(few < scores.keys() for scores in top1.values())]
    if not sets:
        return []
    owners = {task: line["dataset"] for line in lines for task in top1[line["row"]]}
    several = len(set(owners.values())) > 1
    titles = [f"{len(few)} task{'s' * (len(few) > 1)}" + (f" of {owners[min(few)]}" if several else "") for few in sets]
    head = f"| top-1 mean on the same tasks | {' | '.join(titles)} |"
    rows = []
    for line in lines:
        means = [mean_over(few, top1[line["row"]]) for few in sets]
        if any(means):
            rows.append(f"| {line['title']} | {' | '.join(means)} |")
    return ["", head, _rule(head), *rows]


def _reasons(lines: Sequence[Line]) -> list[str]:
    """Say why rows have no result; rows that share a reason are named together."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if line["status"] != "ok":
            word = "Not run" if line["status"] == "not-run" else "Failed"
            by_reason.setdefault((word, line["reason"].rstrip(".")), []).append(line["title"])
    return [part for (word, why), titles in by_reason.items() for part in ("", f"{word}: {'; '.join(titles)} ({why}).")]


def _figure(name: str, store: Store) -> list[str]:
    path = store.figure(name)
    return ["", f"![{experiments()[name].question}](images/{path.name})"] if path.exists() else []


def _rule(head: str) -> str:
    return "|" + "---|" * (head.count("|") - 1)


def _row(line: Line) -> str:
    return f"| {' | '.join(_cells(line))} |"


def _cells(line: Line) -> list[str]:
    form = {"masked": " (zeros, not smaller)", "whole": " (not smaller)", "tokens": " (fewer tokens)"}
    return [
        line["title"] + form.get(line["form"], ""),
        str(line["n_tasks"] or ""),
        _number(line["top1_mean"], "{:.2f}") or line["status"],
        _number(line["top1_sd"], "{:.2f}"),
        line["paper"],
        _number(_stated(line), "{:.2f}"),
        _number(line["training_tflops"], "{:.2f}"),
        _number(line["macs"], "{:.1f}", 1e-6),
        _number(line["seconds"], "{:.0f}"),
    ]


def _stated(line: Line) -> float | None:
    """Return the nominal cost; training that cost nothing is training whose cost nobody stated."""
    return line["nominal_tflops"] or (None if line["iterations"] else line["nominal_tflops"])


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "" if value is None else form.format(value * factor)


def tables() -> dict[str, Callable[[], str]]:
    """Return the tables of all experiments by name."""
    return {name: (lambda name=name: table(name)) for name in experiments()}
