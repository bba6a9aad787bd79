"""Tables of the experiments: one line a row, from its trials."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean

import pandas as pd

from benchmarks.experiments import EXPERIMENTS
from benchmarks.experiments.baselines import LATENCY
from benchmarks.experiments.figures import GROUPS, TITLES, VOTERS, group_sizes, mean_values, of_group, without_choice
from benchmarks.records import RESULTS, Line, dirty_mark, read_lines
from benchmarks.suite import figure_of
from benchmarks.tables import markdown, spread
from benchmarks.trials import counted, in_common

HEAD = ("method", "tasks", "top-1 mean", "sd", "paper", "nominal TFLOPs", "measured TFLOPs", "MMACs", "seconds")
FORM = {"masked": " (zeros, not smaller)", "whole": " (not smaller)", "tokens": " (fewer tokens)"}
MADE = ("members", "added")
"""Where a trial says how many members it made: in its notes, or, if it made what was wanted, in its settings."""
Rows = list[tuple[Line, list[Line]]]
"""Rows of a table with the trials that count."""


def table(name: str, out: Path = RESULTS) -> str:
    """Return the table of an experiment, with a figure if it has one."""
    rows = []
    for line in read_lines(out / f"{name}.jsonl"):
        other, _, row = (line.get("trials") or f"{name}/{line['row']}").partition("/")
        rows.append((line, counted(read_lines(out / "trials" / f"{other}.jsonl"), row)))
    parts = [OWN.get(name, _usual)(rows)]
    if not any(found for _, found in rows):
        parts.insert(0, f"Not run yet: `python -m benchmarks {name}`.")
    if name == "groups":
        parts.append(_groups(out))
    if missing := [line["title"] for line, found in rows if not found]:
        parts.append(f"Not run: {'; '.join(missing)}.")
    if (path := figure_of(out, name)).exists():
        parts.append(f"![{EXPERIMENTS[name].question}](images/{path.name})")
    return "\n\n".join(filter(None, parts))


def _usual(rows: Rows) -> str:
    shown = [(line, found) for line, found in rows if found or line["paper"]]  # the others are named below
    return "\n\n".join(filter(None, [markdown(HEAD, (_cells(*row) for row in shown)), _on_the_same_tasks(rows)]))


def _cells(line: Line, found: Sequence[Line]) -> list[str]:
    title = line["title"] + FORM.get(line["form"], "")
    if not found:
        return [title, "", "not run", "", line["paper"], "", "", "", ""]
    nominal = found[-1]["nominal_tflops"]

    def figure(key: str, form: str, average: str = "mean", scale: float = 1.0) -> str:
        values = pd.Series([t[key] for t in found if t.get(key) is not None], dtype=float)
        return form.format(scale * values.agg(average)) if len(values) else ""

    return [
        title, f"{_tasks(found)}{dirty_mark(found)}", *_top1(found), line["paper"],
        # Training that cost nothing is training whose cost nobody stated.
        "" if nominal is None or (nominal == 0 and found[-1]["iterations"]) else f"{nominal:.2f}",
        figure("training_tflops", "{:.2f}"), figure("macs", "{:.1f}", scale=1e-6),
        figure("seconds", "{:.0f}", "median"),  # other jobs may have held some trials up
    ]  # fmt: skip


def _scores(found: Sequence[Line]) -> dict[str, float]:
    """Return what trials have scored, by task."""
    return {t["task"]: t["top1"] for t in found if t.get("top1") is not None}


def _top1(found: Sequence[Line]) -> list[str]:
    """Return mean and standard deviation as two cells."""
    top1 = [t["top1"] for t in found if t.get("top1") is not None]
    return spread(pd.Series(top1)) if top1 else ["done" if found else "not run", ""]


def _tasks(found: Sequence[Line]) -> int:
    """Return over how many tasks a row's mean is: target tasks, or those of the members that a trial has made."""
    noted = [notes.get(key) for t in found for notes in (t.get("notes", {}), t["hyper"]) for key in MADE]
    made = [*filter(None, noted)]
    return made[0] if made and found[0]["task"] == "" else len({t["task"] for t in found})


def _on_the_same_tasks(rows: Rows) -> str:
    """Compare the rows that had few tasks with all others on these very tasks: a column for each such set of tasks."""
    top1 = {line["row"]: _scores(found) for line, found in rows}
    sets = sorted(dict.fromkeys(frozenset(s) for s in top1.values() if s), key=len, reverse=True)
    sets = [few for few in sets if any(few < s.keys() for s in top1.values())]
    owners = {task: line["dataset"] for line, _ in rows for task in top1[line["row"]]}
    several = len(set(owners.values())) > 1
    titles = [f"{len(few)} task{'s' * (len(few) > 1)}" + (f" of {owners[min(few)]}" if several else "") for few in sets]
    means = [(line["title"], *(_mean_over(few, top1[line["row"]]) for few in sets)) for line, _ in rows]
    return markdown(["top-1 mean on the same tasks", *titles], [m for m in means if any(m[1:])]) if sets else ""


def _mean_over(tasks: Collection[str], scores: Mapping[str, float]) -> str:
    """Return a row's mean over some tasks as a cell; an empty one if there are none, or not all have a score."""
    return f"{mean(scores[t] for t in tasks):.2f}" if tasks and scores.keys() >= set(tasks) else ""


def _baselines(rows: Rows) -> str:
    """Return accuracy beside what a network costs, the timed figures from the row of latencies."""
    notes = next((found[-1]["notes"] for line, found in rows if line["row"] == LATENCY and found), {})
    shown = [(line, found, _scores(found)) for line, found in rows if line["row"] != LATENCY]
    same = in_common(scores for *_, scores in shown)

    def figure(line: Line, name: str, form: str) -> str:
        timed = line["row"].replace("prune-", "tool-")  # a network of the same shape
        value = notes.get(f"{timed}/{name}")
        return "" if value is None else form.format(value)

    head = ["five classes, 100 iterations", "tasks", "top-1 mean", "sd", f"on the same {len(same)}", "learning rate",
            "ms", "against the first", "MMACs", "KiB"]  # fmt: skip
    return markdown(head, (
        [line["title"], f"{len(found) or ''}{dirty_mark(found)}", *_top1(found), _mean_over(same, scores),
         f"{found[-1]['hyper']['lr']:g}" if found else "", figure(line, "ms", "{:.3f}"),
         figure(line, "ratio", "{:.2f}x"), figure(line, "mmacs", "{:.1f}"), figure(line, "kib", "{:.0f}")]
        for line, found, scores in shown
    ))  # fmt: skip


def _groups(out: Path) -> str:
    """Return how many members the groups have, and how many of them voted, where that is recorded."""
    parts = [
        f"At most {VOTERS} members of a group vote, its nearest; where it has fewer, both their number and their "
        "nearness differ."
    ]
    trials, overlap = (read_lines(out / "trials" / f"{name}.jsonl") for name in ("groups", "overlap"))
    for similarity, title in TITLES.items():
        if found := group_sizes(trials, overlap, similarity):
            members = ", ".join(f"{min(ns)} to {max(ns)}" for ns in found.values())
            few = ", ".join(str(sum(n < VOTERS for n in ns)) for ns in found.values())
            parts.append(
                f"By {title} the five groups of this zoo have {members} members, over the {len(found[1])} tasks of "
                f"`overlap`, and fewer than {VOTERS} for {few} of them."
            )
    return " ".join(parts)


def _overlap(rows: Rows) -> str:
    """Return overlap by similarity group: the mean over layers with a choice, and that of the deepest of them.

    An interval of the score may hold no member for some tasks; where it does, the cell says how many tasks are left.
    """
    rows = [(line, found) for line, found in rows if found]
    values = {line["row"]: mean_values(found, line["row"]) for line, found in rows}
    fixed = without_choice(values)

    def cell(row: str, found: Sequence[Line], group: int) -> str:
        layers = [v for k, v in of_group(values[row], group).items() if k not in fixed[row]]
        tasks = sum(bool(of_group(t["values"], group)) for t in found)
        few = f"; {tasks} task{'s' * (tasks > 1)}" if tasks < len(found) else ""
        return f"{mean(layers):.3f} ({layers[-1]:.3f}{few})" if layers else ""

    head = ["IoU: mean over layers (deepest)", "tasks", "group 1, nearest", "2", "3", "4", "5"]
    parts = [markdown(head, (
        [line["title"], f"{len(found)}{dirty_mark(found)}",
         *(cell(line["row"], found, g) for g in range(1, GROUPS + 1))]
        for line, found in rows
    ))]  # fmt: skip
    for base, row in {found[-1]["base"]: line["row"] for line, found in reversed(rows)}.items():
        layers = of_group(values[row], 1)
        if left := [n for n in layers if n in fixed[row]]:
            parts.append(
                f"Left out: {len(left)} of the {len(layers)} layers of {base} (`{left[0]}` to `{left[-1]}`), of "
                "which the members' parent keeps no more units than they do, so that there is nothing to choose."
            )
    return "\n\n".join(parts)


OWN = {"overlap": _overlap, "baselines": _baselines}
"""Tables with columns of their own."""
