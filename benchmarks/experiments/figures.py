"""The paper's figures: overlap of members, accuracy over iterations, by similarity of the voters, over their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from benchmarks.methods import SPECIALISTS, VIT_PAPER, specialists, voted
from benchmarks.plots import CURVES, SHADES, by_layer, curve, legend, panels
from benchmarks.records import Line
from benchmarks.rows import ahnp_row, ifp_row, mvp_row
from benchmarks.setting import Setting
from benchmarks.suite import Context, Experiment, NotApplicableError, Row
from benchmarks.tables import Frame
from benchmarks.trials import counted, top1_by_task
from mvp_edge.config import FitConfig, Similarity, VoteConfig
from mvp_edge.core.errors import PlanError
from mvp_edge.core.streams import rng
from mvp_edge.models.plan import KeepPlan, make_plan
from mvp_edge.voting.neighbours import LeepInputs, Neighbour, rank
from mvp_edge.zoo.member import MemberInfo

ITERATIONS = (10, 30, 60, 100, 300, 1000)
GROUP_ITERATIONS = (20, 50, 100)
GROUPS = 5
VOTERS = 5
NEIGHBOURS = range(1, 11)
NEIGHBOUR_ZOOS = {"activation": "", "taylor": "taylor"}
TITLES: dict[Similarity, str] = {"leep": "LEEP", "wordnet": "WordNet"}
Panel = Mapping[str, Mapping[int, str]]
"""Names of rows by what the legend says and by x."""
Plot = Callable[[Sequence[Line], Sequence[Line], Path], None]

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

    def row(similarity: Similarity, steps: int, group: int) -> Row:
        by_group = partial(_of_group, similarity, group)
        return mvp_row(
            context, steps, name=f"{similarity}-group{group}-{steps}", count=10,
            title=f"{TITLES[similarity]} group {group}, {steps} iterations",
            run=voted(SPECIALISTS, FitConfig(iterations=context.steps(steps)), by_group),
            hyper={"group": group, "similarity": similarity, "neighbours": f"at most {VOTERS}"},
            notes=lambda s: {"voters": len(by_group(s))},
        )  # fmt: skip

    return [row(*key) for key in product(TITLES, GROUP_ITERATIONS, range(1, GROUPS + 1))]


def neighbour_rows(context: Context) -> list[Row]:
    """Return MVP by one to ten neighbours, of the zoo itself and of a Taylor-pruned one."""
    return [
        mvp_row(
            context, 100, name=f"{name}-{n}", title=f"{n} neighbour{'s' * (n > 1)}, {name} zoo", count=10,
            vote=replace(SPECIALISTS, neighbours=n), hyper={"zoo": name}, zoo=zoo,
        )
        for name, zoo in NEIGHBOUR_ZOOS.items() for n in NEIGHBOURS
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
        s.zoo, s.task, VoteConfig(voters="specialist", similarity=similarity),
        LeepInputs(s.prunable, s.train, s.device, s.seed), exclude=frozenset([s.task.id]), prefilter=len(s.zoo.ids()),
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


def on_the_same_tasks(panel: Panel, trials: Sequence[Line]) -> Frame:
    """Return top-1 by task and (label, x), on the tasks that all rows have which have any."""
    top1 = {(label, x): top1_by_task(trials, row) for label, rows in panel.items() for x, row in rows.items()}
    return pd.DataFrame({key: tasks for key, tasks in top1.items() if tasks}).dropna()


def group_sizes(groups: Sequence[Line], overlap: Sequence[Line], similarity: str) -> dict[int, list[int]]:
    """Return how many members the groups have, by group, for the tasks of `overlap` where the same zoo votes."""
    zoos = {t["zoo_id"] for t in groups}
    mine = [t["notes"] for t in counted(overlap, similarity) if t["zoo_id"] in zoos and t.get("notes")]
    return {g: [n.get(f"members/{g}", 0) for n in mine] for g in range(1, GROUPS + 1)} if mine else {}


def curves(drawn: Mapping[str, Panel], x: str, ticks: Iterable[int] | None = None) -> Plot:
    """Return what draws panels of accuracy; on a logarithmic axis unless it has ticks."""

    def plot(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
        found = {title: on_the_same_tasks(panel, trials) for title, panel in drawn.items()}
        shown = {title: top1 for title, top1 in found.items() if len(top1)} or found
        with panels(path, [f"top-1{title}, {_over(len(top1))}" for title, top1 in shown.items()]) as axes:
            for each, (title, top1) in zip(axes, shown.items(), strict=True):
                for label, style in zip(drawn[title], CURVES, strict=False):
                    if label in top1:
                        curve(each, top1[label], label, style)
                each.set_xlabel(x)
                legend(each)
                if ticks is None:
                    each.set_xscale("log")
                else:
                    each.set_xticks([*ticks])

    return plot


def _over(tasks: int) -> str:
    return f"mean of the same {tasks} tasks" if tasks > 1 else f"{tasks or 'no'} task"


def _iterations(*methods: str) -> Panel:
    return {m.removeprefix("vit-").upper(): {n: f"{m}-{n}" for n in ITERATIONS} for m in methods}


def _groups(similarity: str) -> Panel:
    return {
        f"{n} iterations": {g: f"{similarity}-group{g}-{n}" for g in range(1, GROUPS + 1)} for n in GROUP_ITERATIONS
    }


plot_iterations = curves(
    {", ResNet-18": _iterations("mvp", "ifp"), ", vision transformer": _iterations("vit-mvp", "vit-ahnp")}, "iterations"
)
"""Figure 4a."""
plot_groups = curves(
    {f" by {title}": _groups(similarity) for similarity, title in TITLES.items()},
    f"similarity group, 1 = nearest\n(at most {VOTERS} vote)", range(1, GROUPS + 1),
)  # fmt: skip
"""Figure 4b."""
plot_neighbours = curves(
    {"": {f"{name} zoo": {n: f"{name}-{n}" for n in NEIGHBOURS} for name in NEIGHBOUR_ZOOS}},
    "neighbours that vote", NEIGHBOURS,
)  # fmt: skip
"""Figure 5b."""

# Figures 1, 2, 5a, 6 and 7: do similar tasks keep the same units, and more so in deep layers? Nothing is trained: the
# plans of a zoo's members are compared. Members of the CIFAR zoos were all pruned from one generalist, inside whose
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
    values = _overlaps(_own(s).plan, {g: [n.info.plan for n in found] for g, found in groups.items()})
    return {"values": values, "notes": {f"members/{g}": len(found) for g, found in groups.items()}}


def _own(s: Setting) -> MemberInfo:
    return next(i for i in s.zoo.infos() if i.kind == "specialist" and i.task.id == s.task.id)


def iou(a: KeepPlan, b: KeepPlan) -> dict[str, float]:
    """Return intersection over union of the kept units by group (Section 3.2)."""
    if a.widths != b.widths:
        raise PlanError("the two plans are for different base models")
    return {g.name: len({*g.kept} & {*b[g.name]}) / len({*g.kept} | {*b[g.name]}) for g in a.groups}


def _overlaps(plan: KeepPlan, groups: Mapping[int, Sequence[KeepPlan]]) -> dict[str, float]:
    """Return the mean IoU by `GROUP/LAYER`; nothing where there is nobody."""
    found = {g: pd.DataFrame([iou(plan, other) for other in others]) for g, others in groups.items()}
    return {f"{g}/{layer}": round(v, 4) for g, values in found.items() for layer, v in values.mean().items()}


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

    return {"values": _overlaps(draw(), {1: [draw() for _ in range(20)]})}


def mean_values(trials: Sequence[Line], row: str) -> dict[str, float]:
    """Return the mean overlap of a row by `GROUP/LAYER`, over the trials that have one."""
    values: Frame = pd.DataFrame([t["values"] for t in counted(trials, row)])
    return values.mean().round(4).to_dict()


def without_choice(values: Mapping[str, Mapping[str, float]]) -> dict[str, set[str]]:
    """Return by row the layers in which there is no choice: where random units of the parent are always the same.

    Members that were cut from a base itself had all of its units to choose from.
    """
    found = {}
    for row in values:
        parent = values.get((VIT if row.startswith(VIT) else "") + IN_PARENT, {})
        found[row] = {k for k, v in of_group(parent, 1).items() if v == 1 and not row.startswith("ssl-")}
    return found


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
    title = TITLES[cast("Similarity", similarity)]
    return {"taylor": "Taylor: ", "ssl": "SSL: ", "vit": "ViT: "}.get(kind, "") + f"IoU, {title}"


EXPERIMENTS = (
    Experiment("overlap", "do similar tasks keep the same units?", "Figs 1, 2, 5-7", overlap_rows, plot_overlap),
    Experiment("neighbours", "how many neighbours are enough?", "Fig 5b", neighbour_rows, plot_neighbours),
    Experiment("groups", "do nearer neighbours give better models?", "Fig 4b", group_rows, plot_groups),
    Experiment("iterations", "how many iterations are needed?", "Fig 4a", iteration_rows, plot_iterations),
)
