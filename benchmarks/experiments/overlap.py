"""Figures 1, 2, 5a, 6 and 7: do similar tasks keep the same units, and more so in deep layers?

Nothing is trained: the plans of a zoo's members are compared. Members of the bundled zoos were all pruned from one
generalist, inside whose units they lie; so random choices are compared twice, among all units and among that
parent's. Members of the base without labels were pruned from that base itself. Layers of which the parent keeps no more
units than its children are left out of tables and figures: there is nothing to choose.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.experiments import ssl, vit, zoos
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.plots import CURVES, SHADES, by_layer, legend, panels
from benchmarks.suite.running import Case, try_once, why_not
from benchmarks.suite.similarity import GROUPS, all_ranked, grouped
from benchmarks.suite.store import Line, counted
from mvp_edge.config import Similarity
from mvp_edge.core.streams import rng
from mvp_edge.models.plan import KeepPlan, iou, make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.voting.neighbours import Neighbour
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo

NAME = "overlap"
VIT = "vit-"
IN_PARENT = "random-in-parent"
BASES = {"ResNet-18": False, "vision transformer": True}
SIMILARITIES: tuple[Similarity, ...] = ("leep", "wordnet")
WORD = {"leep": "LEEP", "wordnet": "WordNet"}


def rows(context: Context) -> list[Row]:
    """Return a row for each similarity and zoo, and two random ones."""
    missing, lacks_vit = why_not(context, "cifar100"), vit.missing(context)
    taylor = missing or zoos.missing(context, "taylor")

    def row(name: str, method: str, title: str, lacks: str = missing) -> Row:
        base = vit.BASE if name.startswith(VIT) else ""
        return Row(name, method, title, None, form="none", zoo=True, missing=lacks, seconds=15.0, base=base,
                   hyper={"groups": f"{GROUPS} equal intervals of the score"})  # fmt: skip

    return [
        row("leep", "ifp", "members by LEEP"),
        row("wordnet", "ifp", "members by WordNet"),
        row("taylor-leep", "ifp-taylor", "Taylor-pruned members by LEEP", taylor),
        row("taylor-wordnet", "ifp-taylor", "Taylor-pruned members by WordNet", taylor),
        row("ssl-leep", "ifp-ssl", "members cut from the base without labels by LEEP", missing or ssl.missing(context)),
        row("vit-leep", "ahnp", "members of a vision transformer by LEEP", lacks_vit),
        row("vit-wordnet", "ahnp", "members of a vision transformer by WordNet", lacks_vit),
        row("random", "random", "random units of the base"),
        row(IN_PARENT, "random", "random units of the members' parent"),
        row(f"{VIT}random", "random", "random units of the vision transformer", lacks_vit),
        row(f"{VIT}{IN_PARENT}", "random", "random units of the parent of the transformer's members", lacks_vit),
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
        VIT: lambda: vit.opened(context),
    }
    for prefix, open_it in opened.items():
        if by_name[f"{prefix}leep"].missing:
            continue
        zoo = open_it()
        prunable = context.prunable if zoo is context.zoo else PrunableModel.of(zoo.base, zoo.load_base())
        for target in _specialist(zoo)[: context.tasks]:
            case = Case(context, zoo, prunable, target.task, "cifar100")
            for similarity in SIMILARITIES:
                if (row := by_name.get(prefix + similarity)) is None:
                    continue
                try_once(
                    NAME, row, context, zoo, lambda c=case, t=target, s=similarity: _compare(c, t, s), target.task.id
                )  # fmt: skip
    for prefix in ("", VIT):
        if by_name[f"{prefix}random"].missing:
            continue
        zoo = opened[prefix]()
        for target in _specialist(zoo)[: context.tasks]:
            for name, draw in (("random", _at_random), (IN_PARENT, _within_parent)):
                try_once(
                    NAME, by_name[prefix + name], context, zoo,
                    lambda z=zoo, t=target, d=draw: {"values": _by_group({1: _overlaps(*d(context, z, t))})},
                    target.task.id,
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


def _at_random(context: Context, zoo: Zoo, target: MemberInfo) -> tuple[KeepPlan, list[KeepPlan]]:
    """Return two random plans of the target's size."""
    return _drawn(context, target, {n: np.arange(w) for n, w in target.plan.widths.items()})


def _within_parent(context: Context, zoo: Zoo, target: MemberInfo) -> tuple[KeepPlan, list[KeepPlan]]:
    """Return random plans among the units of the member that the target was pruned from.

    Of a parent that is not in the zoo the units are known that any of its children keeps: hardly less than all.
    """
    parent = target.recipe.get("parent")
    if not parent:
        return _at_random(context, zoo, target)
    infos = zoo.infos()
    family = [i for i in infos if i.id == parent] or [i for i in infos if i.recipe.get("parent") == parent]
    units: dict[str, set[int]] = {}
    for group in (g for info in family for g in info.plan.groups):
        units.setdefault(group.name, set()).update(group.kept)
    return _drawn(context, target, {name: np.array(sorted(kept)) for name, kept in units.items()})


def _drawn(context: Context, target: MemberInfo, units: dict[str, np.ndarray]) -> tuple[KeepPlan, list[KeepPlan]]:
    source = rng(context.seed, f"overlap/{target.id}")
    counts, widths = target.plan.counts, target.plan.widths
    draw: Callable[[], KeepPlan] = lambda: make_plan(  # noqa: E731
        widths, {n: source.choice(u, counts[n], replace=False) for n, u in units.items()}
    )
    return draw(), [draw() for _ in range(20)]


def _specialist(zoo: Zoo) -> list[MemberInfo]:
    return [i for i in zoo.infos() if i.kind == "specialist"]


def table(lines: Sequence[Line], trials: Sequence[Line]) -> list[str]:
    """Return overlap by similarity group: the mean over layers with a choice, and that of the deepest of them.

    An interval of the score may hold no member for some tasks; where it does, the cell says how many tasks are left.
    """
    head = "| IoU: mean over layers (deepest) | tasks | group 1, nearest | 2 | 3 | 4 | 5 |"
    shown = [line for line in lines if line["status"] == "ok"]
    fixed = without_choice(lines)
    result = [head, "|" + "---|" * (head.count("|") - 1)]
    for line in shown:
        mine = [t["values"] for t in counted(trials, line["row"]) if t.get("values")]
        cells = [_cell(line, group, mine, fixed) for group in range(1, GROUPS + 1)]
        result.append(f"| {line['title']} | {line['n_tasks']} | {' | '.join(cells)} |")
    for base in dict.fromkeys(line["base"] for line in shown):
        row = next(line for line in shown if line["base"] == base)
        if layers := [n for n in group_of(row["values"], 1) if n in fixed.get(row["row"], ())]:
            result += ["", f"Left out: {len(layers)} of the {len(group_of(row['values'], 1))} layers of {base} "
                           f"(`{layers[0]}` to `{layers[-1]}`), of which the members' parent keeps no more units than "
                           "they do, so that there is nothing to choose."]  # fmt: skip
    return result


def _cell(line: Line, group: int, values: Sequence[Mapping[str, float]], fixed: Mapping[str, set[str]]) -> str:
    layers = list(chosen(line, group, fixed).values())
    if not layers:
        return ""
    tasks = sum(bool(group_of(v, group)) for v in values)
    few = f"; {tasks} task{'s' * (tasks > 1)}" if tasks < line["n_tasks"] else ""
    return f"{statistics.mean(layers):.3f} ({layers[-1]:.3f}{few})"


def without_choice(lines: Sequence[Line]) -> dict[str, set[str]]:
    """Return by row the layers in which there is no choice: where random units of the parent are always the same.

    Members that were cut from a base itself had all of its units to choose from.
    """
    parents = {line["row"]: group_of(line.get("values", {}), 1) for line in lines if line["row"].endswith(IN_PARENT)}
    same = {row: {layer for layer, v in values.items() if v == 1} for row, values in parents.items()}
    return {
        line["row"]: same.get((VIT if line["row"].startswith(VIT) else "") + IN_PARENT, set())
        for line in lines if not line["row"].startswith("ssl-")
    }  # fmt: skip


def chosen(line: Line, group: int, fixed: Mapping[str, set[str]]) -> dict[str, float]:
    """Return one group's overlap by layer, of those layers in which there was something to choose."""
    found = group_of(line["values"], group)
    return {k: v for k, v in found.items() if v is not None and k not in fixed.get(line["row"], ())}


def plot(lines: Sequence[Line], trials: Sequence[Line], path: Path) -> None:
    """Draw overlap by layer and group for every zoo and similarity, and for each base what the nearest have more of.

    Every task has members in the groups 1 and 5, so that the difference of these two is one of the same tasks.
    """
    good, fixed = {line["row"]: line for line in lines if line["status"] == "ok"}, without_choice(lines)
    shown = sorted((n for n in good if "random" not in n), key=lambda n: n.startswith("ssl"))
    gaps = {title: [n for n in shown if n.startswith(VIT) == is_vit] for title, is_vit in BASES.items()}
    gaps = {title: names for title, names in gaps.items() if names or not shown}
    with panels(path, [*map(_title, shown), *(f"{t}: group 1 - group 5" for t in gaps)]) as axes:
        for each, name in zip(axes, shown, strict=False):
            for g in range(1, GROUPS + 1):
                by_layer(each, chosen(good[name], g, fixed), f"group {g}" + " (nearest)" * (g == 1), SHADES[g - 1])
            for other, style in zip(_random_rows(name), (CURVES[-1], CURVES[1]), strict=False):
                if other in good:
                    label = other.removeprefix(VIT).replace("-", " ")
                    by_layer(each, chosen(good[other], 1, fixed), label, style)
            each.set_ylim(0, 1)
            legend(each)
        for each, names in zip(axes[len(shown) :], gaps.values(), strict=True):
            for name, style in zip(names, CURVES, strict=False):
                near, far = (chosen(good[name], g, fixed) for g in (1, GROUPS))
                by_layer(each, {k: near[k] - v for k, v in far.items() if k in near}, _label(name), style)
            legend(each)


def _random_rows(name: str) -> list[str]:
    """Return what a row is compared with: random units of its base and, if its members had one, of their parent."""
    prefix = VIT if name.startswith(VIT) else ""
    return [f"{prefix}random", *([] if name.startswith("ssl-") else [prefix + IN_PARENT])]


def _label(row: str) -> str:
    return _title(row).replace(": IoU", "").removeprefix("IoU, ").removeprefix("ViT, ")


def _title(row: str) -> str:
    kind, _, similarity = row.rpartition("-")
    return {"taylor": "Taylor: ", "ssl": "SSL: ", "vit": "ViT: "}.get(kind, "") + f"IoU, {WORD[similarity]}"


def group_of(values: Mapping[str, float], group: int) -> dict[str, float]:
    """Return one group's overlap by layer."""
    return {k.split("/", 1)[1]: v for k, v in values.items() if k.startswith(f"{group}/")}


EXPERIMENT = Experiment(NAME, "do similar tasks keep the same units?", "Figs 1, 2, 5-7", 8, rows, run, plot, table)
