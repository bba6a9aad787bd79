"""The paper's figures: overlap of members, accuracy over iterations, by similarity of the voters, over their number."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods import SPECIALISTS, VIT_PAPER, specialists, voted
from benchmarks.plots import CURVES, SHADES, by_layer, curve, legend, panels
from benchmarks.records import Line
from benchmarks.rows import ahnp_row, ifp_row, mvp_row
from benchmarks.setting import Setting
from benchmarks.suite import Context, Experiment, NotApplicableError, Row
from benchmarks.trials import counted, in_common, top1_by_task
from mvp_edge.config import FitConfig, Similarity, VoteConfig
from mvp_edge.core.streams import rng
from mvp_edge.models.plan import KeepPlan, iou, make_plan
from mvp_edge.voting.neighbours import Neighbour, rank
from mvp_edge.zoo.member import MemberInfo

ITERATIONS = (10, 30, 60, 100, 300, 1000)
GROUP_ITERATIONS = (20, 50, 100)
GROUPS = 5
VOTERS = 5
MOST_NEIGHBOURS = 10
TITLES: dict[Similarity, str] = {"leep": "LEEP", "wordnet": "WordNet"}
Points = Mapping[float, tuple[float, float | None]]

# Figures 4a, 4b and 5b


def iteration_rows(context: Context) -> list[Row]:
    """Return MVP and IFP at every number of iterations, and MVP and AHNP on a vision transformer."""
    vit: dict[str, Any] = {"zoo": "vit", "count": 5}
    return [
        *(mvp_row(context, n, count=5) for n in ITERATIONS),
        *(ifp_row(context, n, count=5) for n in ITERATIONS),
        *(mvp_row(context, n, fit=VIT_PAPER, name=f"vit-mvp-{n}", title=f"ViT: MVP, {n} iterations", **vit)
          for n in ITERATIONS),
        *(ahnp_row(context, n, name=f"vit-ahnp-{n}", title=f"ViT: AHNP, {n} iterations", **vit) for n in ITERATIONS),
    ]  # fmt: skip


def group_rows(context: Context) -> list[Row]:
    """Return MVP by the members of each similarity group."""
    return [
        _group_row(context, similarity, steps, group)
        for similarity in TITLES for steps in GROUP_ITERATIONS for group in range(1, GROUPS + 1)
    ]  # fmt: skip


def _group_row(context: Context, similarity: Similarity, steps: int, group: int) -> Row:
    by_group = partial(_of_group, similarity, group)
    return mvp_row(
        context, steps, name=f"{similarity}-group{group}-{steps}", count=10,
        title=f"{TITLES[similarity]} group {group}, {steps} iterations",
        run=voted(SPECIALISTS, FitConfig(iterations=context.steps(steps)), by_group),
        hyper={"group": group, "similarity": similarity, "neighbours": f"at most {VOTERS}"},
        notes=lambda s: {"voters": len(by_group(s))},
    )  # fmt: skip


def neighbour_rows(context: Context) -> list[Row]:
    """Return MVP by one to ten neighbours, of the zoo itself and of a Taylor-pruned one."""
    return [
        mvp_row(
            context, 100, name=f"{name}-{n}", title=f"{n} neighbour{'s' * (n > 1)}, {name} zoo", count=10,
            vote=replace(SPECIALISTS, neighbours=n), hyper={"zoo": name}, zoo=zoo,
        )
        for name, zoo in (("activation", ""), ("taylor", "taylor")) for n in range(1, MOST_NEIGHBOURS + 1)
    ]  # fmt: skip


def similarity_groups(scores: Sequence[float], groups: int = GROUPS) -> list[int]:
    """Return the group of each score, 1 for the nearest: equal intervals between the least and the greatest score.

    Example:
        >>> similarity_groups([-1.0, -0.5, -0.6, -0.9, -0.7])
        [5, 1, 1, 5, 3]
    """
    if not scores:
        return []
    least, width = min(scores), (max(scores) - min(scores)) / groups
    if width == 0:
        return [1] * len(scores)
    # The small term keeps scores that lie on a border, up to rounding, in the upper interval, which they open.
    return [groups - min(groups - 1, int((s - least) / width + 1e-9)) for s in scores]


def all_ranked(s: Setting, similarity: Similarity) -> list[Neighbour]:
    """Return all specialists, nearest first, without WordNet's limit on those that LEEP looks at."""
    return rank(
        s.zoo, s.prunable, s.task, s.train, VoteConfig(voters="specialist", similarity=similarity), device=s.device,
        seed=s.seed, exclude=frozenset([s.task.id]), prefilter=len(s.zoo.ids()),
    )  # fmt: skip


def grouped(ranked: Sequence[Neighbour], groups: int = GROUPS) -> dict[int, list[Neighbour]]:
    """Return the members of every similarity group, nearest first; a group may be empty."""
    found: dict[int, list[Neighbour]] = {g: [] for g in range(1, groups + 1)}
    for neighbour, group in zip(ranked, similarity_groups([n.similarity for n in ranked], groups), strict=True):
        found[group].append(neighbour)
    return found


def _of_group(similarity: Similarity, group: int, s: Setting) -> list[Neighbour]:
    key = f"grouped/{similarity}"
    if key not in s.__dict__:  # every group and number of iterations asks for the same
        # The setting's own ranking, which is by LEEP, may have all specialists already.
        is_whole = similarity == "leep" and len(specialists(s)) == sum(i.kind == "specialist" for i in s.zoo.infos())
        s.__dict__[key] = grouped(specialists(s) if is_whole else all_ranked(s, similarity))
    if not (found := s.__dict__[key][group][:VOTERS]):
        raise NotApplicableError("no member is in this interval of the score")
    return found


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
    """Return the curves of a panel from the names of rows by label and x."""
    top1 = {row: top1_by_task(trials, row) for names in rows.values() for row in names.values()}
    same = in_common(top1.values())

    def point(row: str) -> tuple[float, float | None]:
        values = [top1[row][task] for task in same]
        return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None

    found: dict[str, Points] = {
        label: {x: point(row) for x, row in names.items() if same and top1[row]} for label, names in rows.items()
    }
    return Curves(found, len(same))


def group_sizes(groups: Sequence[Line], overlap: Sequence[Line], similarity: str) -> dict[int, list[int]]:
    """Return how many members the groups have, by group, for the tasks of `overlap` where the same zoo votes."""
    zoos = {t["zoo_id"] for t in groups}
    mine = [t["notes"] for t in counted(overlap, similarity) if t["zoo_id"] in zoos and t.get("notes")]
    return {g: [n.get(f"members/{g}", 0) for n in mine] for g in range(1, GROUPS + 1)} if mine else {}


def span(numbers: Iterable[int]) -> str:
    """Return the least and the greatest of some numbers."""
    found = list(numbers)
    return f"{min(found)} to {max(found)}"


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


def plot_groups(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
    """Draw Figure 4b."""
    found = {
        title: on_the_same_tasks(
            {f"{n} iterations": {g: f"{similarity}-group{g}-{n}" for g in range(1, GROUPS + 1)}
             for n in GROUP_ITERATIONS},
            trials,
        )
        for similarity, title in TITLES.items()
    }  # fmt: skip
    with panels(path, [f"top-1 by {title}, {curves.over}" for title, curves in found.items()]) as both:
        for axes, curves in zip(both, found.values(), strict=True):
            _draw(axes, curves, f"similarity group, 1 = nearest\n(at most {VOTERS} vote)")
            axes.set_xticks(range(1, GROUPS + 1))


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


# Figures 1, 2, 5a, 6 and 7: do similar tasks keep the same units, and more so in deep layers? Nothing is trained: the
# plans of a zoo's members are compared. Members of the bundled zoos were all pruned from one generalist, inside whose
# units they lie; so random choices are compared twice, among all units and among that parent's. Members of the base
# without labels were pruned from that base itself. Layers of which the parent keeps no more units than its children are
# left out: there is nothing to choose.

VIT = "vit-"
IN_PARENT = "random-in-parent"
BASES = {"ResNet-18": False, "vision transformer": True}


def overlap_rows(context: Context) -> list[Row]:
    """Return a row for each similarity and zoo, and two random ones for each base."""

    def row(name: str, method: str, title: str, zoo: str, run: Callable[[Setting], Line]) -> Row:
        return Row(name, method, title, run, form="none", votes=True, zoo=zoo, tasks="members",
                   hyper={"groups": f"{GROUPS} equal intervals of the score"})  # fmt: skip

    sets: tuple[tuple[str, str, str, str, tuple[Similarity, ...]], ...] = (
        ("", "ifp", "members", "", ("leep", "wordnet")),
        ("taylor-", "ifp-taylor", "Taylor-pruned members", "taylor", ("leep", "wordnet")),
        ("ssl-", "ifp-ssl", "members cut from the base without labels", "ssl", ("leep",)),
        (VIT, "ahnp", "members of a vision transformer", "vit", ("leep", "wordnet")),
    )
    near = [
        row(prefix + kind, method, f"{title} by {TITLES[kind]}", zoo, partial(_near, kind))
        for prefix, method, title, zoo, kinds in sets for kind in kinds
    ]  # fmt: skip
    return [
        *near,
        row("random", "random", "random units of the base", "", _at_random),
        row(IN_PARENT, "random", "random units of the members' parent", "", _within_parent),
        row(f"{VIT}random", "random", "random units of the vision transformer", "vit", _at_random),
        row(f"{VIT}{IN_PARENT}", "random", "random units of the parent of the transformer's members", "vit",
            _within_parent),
    ]  # fmt: skip


def _near(similarity: Similarity, s: Setting) -> Line:
    """Return the mean overlap of a member with those of each group, by layer, and the groups' sizes."""
    groups = grouped(all_ranked(s, similarity))
    plan = _own(s).plan
    values = _by_group({g: _overlaps(plan, [n.info.plan for n in found]) for g, found in groups.items()})
    return {"values": values, "notes": {f"members/{g}": len(found) for g, found in groups.items()}}


def _own(s: Setting) -> MemberInfo:
    return next(i for i in s.zoo.infos() if i.kind == "specialist" and i.task.id == s.task.id)


def _overlaps(plan: KeepPlan, others: Sequence[KeepPlan]) -> dict[str, float]:
    """Return the mean IoU by layer; nothing where there is nobody."""
    found = [iou(plan, other) for other in others]
    return {name: statistics.mean(f[name] for f in found) for name in found[0]} if found else {}


def _by_group(overlaps: dict[int, dict[str, float]]) -> dict[str, float]:
    return {f"{g}/{layer}": round(v, 4) for g, layers in overlaps.items() for layer, v in layers.items()}


def _at_random(s: Setting) -> Line:
    """Compare random plans of the target's size."""
    target = _own(s)
    return _drawn(s, target, {n: np.arange(w) for n, w in target.plan.widths.items()})


def _within_parent(s: Setting) -> Line:
    """Compare random plans among the units of the member that the target was pruned from.

    Of a parent that is not in the zoo the units are known that any of its children keeps: hardly less than all.
    """
    target, infos = _own(s), s.zoo.infos()
    parent = target.recipe.get("parent")
    if not parent:
        return _at_random(s)
    family = [i for i in infos if i.id == parent] or [i for i in infos if i.recipe.get("parent") == parent]
    units: dict[str, set[int]] = {}
    for group in (g for info in family for g in info.plan.groups):
        units.setdefault(group.name, set()).update(group.kept)
    return _drawn(s, target, {name: np.array(sorted(kept)) for name, kept in units.items()})


def _drawn(s: Setting, target: MemberInfo, units: dict[str, np.ndarray]) -> Line:
    source, counts, widths = rng(s.seed, f"overlap/{target.id}"), target.plan.counts, target.plan.widths

    def draw() -> KeepPlan:
        return make_plan(widths, {n: source.choice(u, counts[n], replace=False) for n, u in units.items()})

    return {"values": _by_group({1: _overlaps(draw(), [draw() for _ in range(20)])})}


def mean_values(trials: Sequence[Line], row: str) -> dict[str, float]:
    """Return the mean overlap of a row by `GROUP/LAYER`, over the trials that have one."""
    maps = [t["values"] for t in counted(trials, row)]
    keys = dict.fromkeys(k for m in maps for k in m)
    return {k: round(statistics.mean(m[k] for m in maps if k in m), 4) for k in keys}


def without_choice(values: Mapping[str, Mapping[str, float]]) -> dict[str, set[str]]:
    """Return by row the layers in which there is no choice: where random units of the parent are always the same.

    Members that were cut from a base itself had all of its units to choose from.
    """
    same = {row: {layer for layer, v in of_group(found, 1).items() if v == 1}
            for row, found in values.items() if row.endswith(IN_PARENT)}  # fmt: skip
    return {row: set() if row.startswith("ssl-") else same.get((VIT if row.startswith(VIT) else "") + IN_PARENT, set())
            for row in values}  # fmt: skip


def of_group(values: Mapping[str, float], group: int) -> dict[str, float]:
    """Return one group's overlap by layer."""
    return {k.split("/", 1)[1]: v for k, v in values.items() if k.startswith(f"{group}/")}


def plot_overlap(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
    """Draw overlap by layer and group for every zoo and similarity, and for each base what the nearest have more of.

    Every task has members in the groups 1 and 5, so that the difference of these two is one of the same tasks.
    """
    values = {line["row"]: v for line in lines if (v := mean_values(trials, line["row"]))}
    fixed = without_choice(values)

    def layers(name: str, group: int) -> dict[str, float]:
        return {k: v for k, v in of_group(values[name], group).items() if k not in fixed[name]}

    shown = sorted((n for n in values if "random" not in n), key=lambda n: n.startswith("ssl"))
    gaps = {title: [n for n in shown if n.startswith(VIT) == is_vit] for title, is_vit in BASES.items()}
    gaps = {title: names for title, names in gaps.items() if names or not shown}
    with panels(path, [*map(_title, shown), *(f"{t}: group 1 - group 5" for t in gaps)]) as axes:
        for each, name in zip(axes, shown, strict=False):
            for g in range(1, GROUPS + 1):
                by_layer(each, layers(name, g), f"group {g}" + " (nearest)" * (g == 1), SHADES[g - 1])
            prefix = VIT if name.startswith(VIT) else ""
            others = [f"{prefix}random", *([] if name.startswith("ssl-") else [prefix + IN_PARENT])]
            for other, style in zip(others, (CURVES[-1], CURVES[1]), strict=False):
                if other in values:
                    by_layer(each, layers(other, 1), other.removeprefix(VIT).replace("-", " "), style)
            each.set_ylim(0, 1)
            legend(each)
        for each, names in zip(axes[len(shown) :], gaps.values(), strict=True):
            for name, style in zip(names, CURVES, strict=False):
                near, far = layers(name, 1), layers(name, GROUPS)
                label = _title(name).replace(": IoU", "").removeprefix("IoU, ").removeprefix("ViT, ")
                by_layer(each, {k: near[k] - v for k, v in far.items() if k in near}, label, style)
            legend(each)


def _title(row: str) -> str:
    kind, _, similarity = row.rpartition("-")
    return {"taylor": "Taylor: ", "ssl": "SSL: ", "vit": "ViT: "}.get(kind, "") + f"IoU, {TITLES[similarity]}"  # pyright: ignore


EXPERIMENTS = (
    Experiment("overlap", "do similar tasks keep the same units?", "Figs 1, 2, 5-7", overlap_rows, plot_overlap),
    Experiment("neighbours", "how many neighbours are enough?", "Fig 5b", neighbour_rows, plot_neighbours),
    Experiment("groups", "do nearer neighbours give better models?", "Fig 4b", group_rows, plot_groups),
    Experiment("iterations", "how many iterations are needed?", "Fig 4a", iteration_rows, plot_iterations),
)
