"""Figures 4a, 4b and 5b: accuracy over iterations, by similarity of the neighbours, and over their number."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.experiments import vit, zoos
from benchmarks.methods import SPECIALISTS, by, specialist
from benchmarks.setting import Setting
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import ahnp_row, ifp_row, mvp_row
from benchmarks.suite.plots import CURVES, curve, legend, panels
from benchmarks.suite.running import NotApplicableError, cases, try_rows, why_not
from benchmarks.suite.similarity import GROUPS, all_ranked, grouped
from benchmarks.suite.store import Line, Store, counted, in_common, top1_by_task
from mvp_edge.config import FitConfig, Similarity
from mvp_edge.voting.neighbours import Neighbour

ITERATIONS = (10, 30, 60, 100, 300, 1000)
GROUP_ITERATIONS = (20, 50, 100)
VOTERS = 5
TITLES = {"leep": "LEEP", "wordnet": "WordNet"}
MOST_NEIGHBOURS = 10
Points = Mapping[float, tuple[float, float | None]]


def iteration_rows(context: Context) -> list[Row]:
    """Return MVP and IFP at every number of iterations."""
    missing, lacks = why_not(context, "cifar100"), vit.missing(context)
    return [
        *(mvp_row(context, n, missing=missing) for n in ITERATIONS),
        *(ifp_row(context, n, missing=missing) for n in ITERATIONS),
        *(
            mvp_row(context, n, fit=vit.FIT, name=f"vit-mvp-{n}", title=f"ViT: MVP, {n} iterations", missing=lacks,
                    base=vit.BASE)
            for n in ITERATIONS
        ),
        *(ahnp_row(context, n, name=f"vit-ahnp-{n}", title=f"ViT: AHNP, {n} iterations", missing=lacks,
                     base=vit.BASE)
          for n in ITERATIONS),
    ]  # fmt: skip


def group_rows(context: Context) -> list[Row]:
    """Return MVP by the members of each similarity group."""
    missing = why_not(context, "cifar100")
    return [
        mvp_row(
            context, steps, name=f"{similarity}-group{group}-{steps}", missing=missing,
            title=f"{TITLES[similarity]} group {group}, {steps} iterations",
            run=by(_of_group(similarity, group), SPECIALISTS, FitConfig(iterations=context.steps(steps))),
            hyper={"group": group, "similarity": similarity, "neighbours": f"at most {VOTERS}"},
            notes=_voters(_of_group(similarity, group)),
        )
        for similarity in ("leep", "wordnet") for steps in GROUP_ITERATIONS for group in range(1, GROUPS + 1)
    ]  # fmt: skip


def neighbour_rows(context: Context) -> list[Row]:
    """Return MVP by one to ten neighbours, of the zoo itself and of a Taylor-pruned one."""
    missing = why_not(context, "cifar100")
    taylor = missing or zoos.missing(context, "taylor")
    return [
        mvp_row(
            context, 100, name=f"{name}-{n}", title=f"{n} neighbour{'s' * (n > 1)}, {name} zoo", missing=lacks,
            vote=replace(SPECIALISTS, neighbours=n), hyper={"zoo": name},
        )
        for name, lacks in (("activation", missing), ("taylor", taylor)) for n in range(1, MOST_NEIGHBOURS + 1)
    ]  # fmt: skip


def _of_group(similarity: Similarity, group: int) -> Callable[[Setting], list[Neighbour]]:
    def members(s: Setting) -> list[Neighbour]:
        key = f"grouped/{similarity}"
        if key not in s.__dict__:  # every group and number of iterations asks for the same
            s.__dict__[key] = grouped(specialist(s) if _is_whole(s, similarity) else all_ranked(s, similarity))
        if not (found := s.__dict__[key][group][:VOTERS]):
            raise NotApplicableError("no member is in this interval of the score")
        return found

    return members


def _voters(members: Callable[[Setting], list[Neighbour]]) -> Callable[[Setting], dict[str, float]]:
    return lambda s: {"voters": len(members(s))}


def _is_whole(s: Setting, similarity: Similarity) -> bool:
    """Say whether the setting's own ranking, which is by LEEP, has all specialists."""
    return similarity == "leep" and len(specialist(s)) == sum(i.kind == "specialist" for i in s.zoo.infos())


def run_groups(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not why_not(context, "cifar100"):
        try_rows("groups", rows, cases(context, 10))


def run_iterations(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing, on either base."""
    if not why_not(context, "cifar100"):
        try_rows("iterations", [r for r in rows if not r.name.startswith("vit-")], cases(context, 5))
    if not vit.missing(context):
        theirs = cases(context, 5, zoo=vit.opened(context))
        try_rows("iterations", [r for r in rows if r.name.startswith("vit-")], theirs)


def run_neighbours(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing, each half with its zoo."""
    if why_not(context, "cifar100"):
        return
    try_rows("neighbours", [r for r in rows if r.name.startswith("activation")], cases(context, 10))
    if not zoos.missing(context, "taylor"):
        theirs = cases(context, 10, zoo=zoos.opened(context, "taylor"))
        try_rows("neighbours", [r for r in rows if r.name.startswith("taylor")], theirs)


@dataclass(frozen=True)
class Curves:
    """The curves of one panel, all over the same target tasks: those that every row has which has any.

    Attributes:
        by_label: Mean and standard deviation over the tasks, by what the legend says and by x.
        tasks: How many tasks these are.
    """

    by_label: Mapping[str, Points]
    tasks: int

    @property
    def over(self) -> str:
        """How many tasks the means are over, for a title."""
        return f"mean of the same {self.tasks} tasks" if self.tasks > 1 else f"{self.tasks or 'no'} task"


def on_the_same_tasks(rows: Mapping[str, Mapping[int, str]], trials: Sequence[Line]) -> Curves:
    """Return the curves of a panel.

    Args:
        rows: Names of rows by label and x.
        trials: Trials of the experiment.
    """
    top1 = {row: top1_by_task(trials, row) for names in rows.values() for row in names.values()}
    same = in_common(top1.values())

    def point(row: str) -> tuple[float, float | None]:
        values = [top1[row][task] for task in same]
        return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None

    found: dict[str, Points] = {
        label: {x: point(row) for x, row in names.items() if same and top1[row]} for label, names in rows.items()
    }
    return Curves(found, len(same))


def plot_iterations(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
    """Draw Figure 4a."""
    pairs = {"ResNet-18": ("mvp", "ifp"), "vision transformer": ("vit-mvp", "vit-ahnp")}
    found = {
        title: on_the_same_tasks(
            {n.removeprefix("vit-").upper(): {steps: f"{n}-{steps}" for steps in ITERATIONS} for n in names}, trials
        )
        for title, names in pairs.items()
    }
    shown = {title: curves for title, curves in found.items() if curves.tasks}
    with panels(path, [f"top-1, {title}, {curves.over}" for title, curves in shown.items()]) as both:
        for axes, curves in zip(both, shown.values(), strict=True):
            _draw(axes, curves, "iterations")
            axes.set_xscale("log")


def sizes(store: Store, similarity: str) -> dict[int, list[int]]:
    """Return how many members the groups have, by group, for the tasks of `overlap` where the same zoo votes."""
    zoos = {t["zoo_id"] for t in store.trials("groups")}
    mine = [t["notes"] for t in counted(store.trials("overlap"), similarity) if t["zoo_id"] in zoos and t.get("notes")]
    return {g: [n.get(f"members/{g}", 0) for n in mine] for g in range(1, GROUPS + 1)} if mine else {}


def told_of_groups(lines: Sequence[Line], store: Store) -> str:
    """Say how many members the groups have and how many of them voted, where that is recorded."""
    told = [
        f"At most {VOTERS} members of a group vote, its nearest; where it has fewer, both their number and their "
        "nearness differ."
    ]
    for similarity, title in TITLES.items():
        if found := sizes(store, similarity):
            members = ", ".join(map(_range, found.values()))
            few = [sum(n < VOTERS for n in ns) for ns in found.values()]
            told.append(
                f"By {title} the five groups of this zoo have {members} members, over the {len(found[1])} tasks of "
                f"`overlap`, and fewer than {VOTERS} for {', '.join(map(str, few))} of them."
            )
        voted = {
            line["row"]: v for line in lines
            if line["row"].startswith(similarity) and (v := line.get("notes", {}).get("voters")) is not None
        }  # fmt: skip
        if voted:
            told.append(f"Voters by {title}: {', '.join(f'{v:g} ({row})' for row, v in voted.items())}.")
    return " ".join(told)


def _range(numbers: Sequence[int]) -> str:
    return f"{min(numbers)} to {max(numbers)}"


def plot_groups(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
    """Draw Figure 4b; below each group is how many members it has, by the records beside the figure."""
    found = {
        title: on_the_same_tasks(
            {
                f"{steps} iterations": {g: f"{similarity}-group{g}-{steps}" for g in range(1, GROUPS + 1)}
                for steps in GROUP_ITERATIONS
            },
            trials,
        )
        for similarity, title in TITLES.items()
    }
    with panels(path, [f"top-1 by {title}, {curves.over}" for title, curves in found.items()]) as both:
        for axes, curves, similarity in zip(both, found.values(), TITLES, strict=True):
            members = sizes(Store(path.parent), similarity)
            told = "; below: its members" if members else ""
            _draw(axes, curves, f"similarity group, 1 = nearest{told}\n(at most {VOTERS} vote)")
            groups = range(1, GROUPS + 1)
            axes.set_xticks(groups, [f"{g}\n{_range(members[g])}" if members else str(g) for g in groups])


def plot_neighbours(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
    """Draw Figure 5b."""
    counts = range(1, MOST_NEIGHBOURS + 1)
    rows = {f"{name} zoo": {n: f"{name}-{n}" for n in counts} for name in ("activation", "taylor")}
    curves = on_the_same_tasks(rows, trials)
    with panels(path, [f"top-1, {curves.over}"]) as (axes,):
        _draw(axes, curves, "neighbours that vote")
        axes.set_xticks(counts)


def _draw(axes: Any, curves: Curves, x: str) -> None:
    for (label, points), style in zip(curves.by_label.items(), CURVES, strict=False):
        curve(axes, points, label, style)
    axes.set_xlabel(x)
    legend(axes)


EXPERIMENTS = (
    Experiment("neighbours", "how many neighbours are enough?", "Fig 5b", 50, neighbour_rows, run_neighbours,
               plot_neighbours),
    Experiment("groups", "do nearer neighbours give better models?", "Fig 4b", 45, group_rows, run_groups,
               plot_groups, note=told_of_groups),
    Experiment("iterations", "how many iterations are needed?", "Fig 4a", 40, iteration_rows, run_iterations,
               plot_iterations),
)  # fmt: skip
