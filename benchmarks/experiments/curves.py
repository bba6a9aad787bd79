"""Figures 4a, 4b and 5b: accuracy over iterations, by similarity of the neighbours, and over their number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.experiments import vit, zoos
from benchmarks.methods import NARROW, by, narrow
from benchmarks.setting import Setting
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import ahnp_row, ifp_row, mvp_row
from benchmarks.suite.plots import CURVES, curve, legend, panels
from benchmarks.suite.running import NotApplicableError, cases, try_rows, why_not
from benchmarks.suite.similarity import GROUPS, all_ranked, grouped
from benchmarks.suite.store import Line
from mvp_edge.config import FitConfig, Similarity
from mvp_edge.metavote import Neighbour

ITERATIONS = (10, 30, 60, 100, 300, 1000)
GROUP_ITERATIONS = (20, 50, 100)
VOTERS = 5
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
            title=f"{'LEEP' if similarity == 'leep' else 'WordNet'} group {group}, {steps} iterations",
            run=by(_of_group(similarity, group), NARROW, FitConfig(iterations=context.steps(steps))),
            hyper={"group": group, "similarity": similarity, "neighbours": f"at most {VOTERS}"},
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
            vote=replace(NARROW, neighbours=n), hyper={"zoo": name},
        )
        for name, lacks in (("activation", missing), ("taylor", taylor)) for n in range(1, MOST_NEIGHBOURS + 1)
    ]  # fmt: skip


def _of_group(similarity: Similarity, group: int) -> Callable[[Setting], list[Neighbour]]:
    def members(s: Setting) -> list[Neighbour]:
        key = f"grouped/{similarity}"
        if key not in s.__dict__:  # every group and number of iterations asks for the same
            s.__dict__[key] = grouped(narrow(s) if _is_whole(s, similarity) else all_ranked(s, similarity))
        if not (found := s.__dict__[key][group][:VOTERS]):
            raise NotApplicableError("no member is in this interval of the score")
        return found

    return members


def _is_whole(s: Setting, similarity: Similarity) -> bool:
    """Say whether the setting's own ranking, which is by LEEP, has all narrow members."""
    return similarity == "leep" and len(narrow(s)) == sum(i.breadth == "narrow" for i in s.zoo.infos())


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


def points(lines: Sequence[Line], prefix: str, x: Callable[[Line], float]) -> Points:
    """Return mean and spread by x of the rows whose names begin with `prefix` and have results."""
    return {
        x(line): (line["top1_mean"], line["top1_sd"])
        for line in lines if line["row"].startswith(prefix) and line["top1_mean"] is not None
    }  # fmt: skip


def plot_iterations(lines: Sequence[Line], path: Path) -> None:
    """Draw Figure 4a."""
    pairs = {"ResNet-18": ("mvp", "ifp"), "vision transformer": ("vit-mvp", "vit-ahnp")}
    shown = {t: names for t, names in pairs.items() if any(points(lines, f"{n}-", _steps) for n in names)}
    with panels(path, [f"top-1 over iterations, {title}" for title in shown]) as both:
        for axes, names in zip(both, shown.values(), strict=True):
            for name, colour in zip(names, CURVES, strict=False):
                curve(axes, points(lines, f"{name}-", _steps), name.removeprefix("vit-").upper(), colour)
            axes.set_xscale("log")
            axes.set_xlabel("iterations")
            legend(axes)


def _steps(line: Line) -> float:
    return line["iterations"]


def plot_groups(lines: Sequence[Line], path: Path) -> None:
    """Draw Figure 4b."""
    with panels(path, ["neighbours by LEEP", "neighbours by WordNet"]) as both:
        for axes, similarity in zip(both, ("leep", "wordnet"), strict=True):
            for steps, colour in zip(GROUP_ITERATIONS, CURVES, strict=False):
                mine = [line for line in lines if line["row"].endswith(f"-{steps}")]
                found = points(mine, similarity, lambda line: int(line["row"].split("-group")[1].split("-")[0]))
                curve(axes, found, f"{steps} iterations", colour)
            axes.set_xlabel("similarity group, 1 = nearest")
            axes.set_xticks(range(1, GROUPS + 1))
            legend(axes)


def plot_neighbours(lines: Sequence[Line], path: Path) -> None:
    """Draw Figure 5b."""
    with panels(path, ["top-1 over the number of neighbours"]) as (axes,):
        for name, colour in zip(("activation", "taylor"), CURVES, strict=False):
            curve(axes, points(lines, f"{name}-", lambda line: int(line["row"].split("-")[1])), f"{name} zoo", colour)
        axes.set_xlabel("neighbours that vote")
        axes.set_xticks(range(1, MOST_NEIGHBOURS + 1))
        legend(axes)


EXPERIMENTS = (
    Experiment("neighbours", "how many neighbours are enough?", "Fig 5b", 50, neighbour_rows, run_neighbours,
               plot_neighbours),
    Experiment("groups", "do nearer neighbours give better models?", "Fig 4b", 45, group_rows, run_groups,
               plot_groups),
    Experiment("iterations", "how many iterations are needed?", "Fig 4a", 40, iteration_rows, run_iterations,
               plot_iterations),
)  # fmt: skip
