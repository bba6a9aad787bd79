"""Figures 1, 2, 5a, 6 and 7: do similar tasks keep the same units, and more so in deep layers?

Nothing is trained: the plans of a zoo's members are compared. Members of the bundled zoo were all pruned from one broad
member, inside whose units they lie; so random choices are compared twice, among all units and among that parent's.
Members of the base without labels were pruned from that base itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.experiments import ssl, vit, zoos
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.plots import CURVES, MUTED, SHADES, by_layer, legend, panels
from benchmarks.suite.running import Case, try_once, why_not
from benchmarks.suite.similarity import GROUPS, all_ranked, grouped
from benchmarks.suite.store import Line
from mvp_edge.config import Similarity
from mvp_edge.metavote import Neighbour, Trunk
from mvp_edge.plan import KeepPlan, iou, make_plan
from mvp_edge.runtime import rng
from mvp_edge.zoo import MemberInfo, Zoo

NAME = "overlap"
SIMILARITIES: tuple[Similarity, ...] = ("leep", "wordnet")
WORD = {"leep": "LEEP", "wordnet": "WordNet"}


def rows(context: Context) -> list[Row]:
    """Return a row for each similarity and zoo, and two random ones."""
    missing = why_not(context, "cifar100")
    taylor = missing or zoos.missing(context, "taylor")

    def row(name: str, method: str, title: str, lacks: str = missing) -> Row:
        return Row(name, method, title, None, form="none", zoo=True, missing=lacks, seconds=15.0,
                   hyper={"groups": f"{GROUPS} equal intervals of the score"})  # fmt: skip

    return [
        row("leep", "ifp", "members by LEEP"),
        row("wordnet", "ifp", "members by WordNet"),
        row("taylor-leep", "ifp-taylor", "Taylor-pruned members by LEEP", taylor),
        row("taylor-wordnet", "ifp-taylor", "Taylor-pruned members by WordNet", taylor),
        row("ssl-leep", "ifp-ssl", "members cut from the base without labels by LEEP", missing or ssl.missing(context)),
        row("vit-leep", "ahnp", "members of a vision transformer by LEEP", vit.missing(context)),
        row("vit-wordnet", "ahnp", "members of a vision transformer by WordNet", vit.missing(context)),
        row("random", "random", "random units of the base"),
        row("random-in-parent", "random", "random units of the members' parent"),
    ]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Compare the members with those of each similarity group, for as many of them as there are target tasks."""
    by_name = {r.name: r for r in rows}
    if by_name["leep"].missing:
        return
    opened = {
        "": lambda: context.zoo,
        "taylor-": lambda: zoos.opened(context, "taylor"),
        "ssl-": lambda: ssl.opened(context)[0],
        "vit-": lambda: vit.opened(context),
    }
    for prefix, open_it in opened.items():
        if by_name[f"{prefix}leep"].missing:
            continue
        zoo = open_it()
        trunk = context.trunk if zoo is context.zoo else Trunk.of(zoo.base, zoo.load_base())
        for target in _narrow(zoo)[: context.tasks]:
            case = Case(context, zoo, trunk, target.task, "cifar100")
            for similarity in SIMILARITIES:
                if (row := by_name.get(prefix + similarity)) is None:
                    continue
                try_once(
                    NAME, row, context, zoo, lambda c=case, t=target, s=similarity: _compare(c, t, s), target.task.id
                )  # fmt: skip
    for target in _narrow(context.zoo)[: context.tasks]:
        for name, draw in (("random", _at_random), ("random-in-parent", _within_parent)):
            try_once(
                NAME, by_name[name], context, context.zoo,
                lambda t=target, d=draw: {"values": _by_group({1: _overlaps(*d(context, t))})}, target.task.id,
            )  # fmt: skip


def _compare(case: Case, target: MemberInfo, similarity: Similarity) -> Line:
    """Return the mean overlap of a member with those of each group, by layer, and the groups' sizes."""
    groups = grouped(all_ranked(case.setting, similarity))
    sizes = {f"members/{g}": len(found) for g, found in groups.items()}
    return {"values": _by_group({g: _overlaps(target.plan, _plans(found)) for g, found in groups.items()}),
            "notes": sizes}  # fmt: skip


def _plans(found: Sequence[Neighbour]) -> list[KeepPlan]:
    return [n.info.plan for n in found]


def _overlaps(plan: KeepPlan, others: Sequence[KeepPlan]) -> dict[str, float]:
    """Return the mean IoU by layer; nothing where there is nobody."""
    found = [iou(plan, other) for other in others]
    return {name: statistics.mean(f[name] for f in found) for name in found[0]} if found else {}


def _by_group(overlaps: dict[int, dict[str, float]]) -> dict[str, float]:
    return {f"{g}/{layer}": round(v, 4) for g, layers in overlaps.items() for layer, v in layers.items()}


def _at_random(context: Context, target: MemberInfo) -> tuple[KeepPlan, list[KeepPlan]]:
    """Return two random plans of the target's size."""
    return _drawn(context, target, {n: np.arange(w) for n, w in target.plan.widths.items()})


def _within_parent(context: Context, target: MemberInfo) -> tuple[KeepPlan, list[KeepPlan]]:
    """Return random plans among the units of the member that the target was pruned from."""
    parent = target.recipe.get("parent")
    if not parent:
        return _at_random(context, target)
    plan = context.zoo.info(str(parent)).plan
    return _drawn(context, target, {g.name: np.array(g.kept) for g in plan.groups})


def _drawn(context: Context, target: MemberInfo, units: dict[str, np.ndarray]) -> tuple[KeepPlan, list[KeepPlan]]:
    source = rng(context.seed, f"overlap/{target.id}")
    counts, widths = target.plan.counts, target.plan.widths
    draw: Callable[[], KeepPlan] = lambda: make_plan(  # noqa: E731
        widths, {n: source.choice(u, counts[n], replace=False) for n, u in units.items()}
    )
    return draw(), [draw() for _ in range(20)]


def _narrow(zoo: Zoo) -> list[MemberInfo]:
    return [i for i in zoo.infos() if i.breadth == "narrow"]


def plot(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
    """Draw overlap by layer and group for every zoo and similarity, and the difference of the extreme groups."""
    good = {line["row"]: line["values"] for line in lines if line["status"] == "ok"}
    shown = [n for n in good if not n.startswith("random")]
    titles = [_title(name) for name in shown]
    with panels(path, [*titles, "group 1 - group 5"]) as axes:
        for each, name in zip(axes, shown, strict=False):
            for g in range(1, GROUPS + 1):
                by_layer(each, group_of(good[name], g), f"group {g}" + " (nearest)" * (g == 1), SHADES[g - 1])
            for other, colour in (("random", MUTED), ("random-in-parent", "#c2703d")):
                if other in good and not name.startswith(("vit", "ssl")):
                    by_layer(each, group_of(good[other], 1), other.replace("-", " "), colour, dashed=True)
            each.set_ylim(0, 1)
            legend(each)
        for i, name in enumerate(shown):
            near, far = (group_of(good[name], g) for g in (1, GROUPS))
            gap = {k: near[k] - v for k, v in far.items() if v is not None and near.get(k) is not None}
            by_layer(axes[-1], gap, name, CURVES[i % len(CURVES)])
        legend(axes[-1])


def _title(row: str) -> str:
    kind, _, similarity = row.rpartition("-")
    return {"taylor": "Taylor: ", "ssl": "SSL: ", "vit": "ViT: "}.get(kind, "") + f"IoU, {WORD[similarity]}"


def group_of(values: dict[str, float], group: int) -> dict[str, float]:
    """Return one group's overlap by layer."""
    return {k.split("/", 1)[1]: v for k, v in values.items() if k.startswith(f"{group}/")}


EXPERIMENT = Experiment(NAME, "do similar tasks keep the same units?", "Figs 1, 2, 5-7", 8, rows, run, plot)
