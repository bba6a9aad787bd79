"""Zoos that other experiments need: Taylor-pruned members, and members of three and of ten classes.

They are made as the bundled zoo's specialists are, from the smallest larger generalist, in 200 iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.suite.experiment import Context, Experiment, Row, made_from
from benchmarks.suite.running import IN_PARTS, try_once, why_not
from benchmarks.suite.zoos import fork, grow
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import BuildConfig, FitConfig, Importance, PruneSchedule
from mvp_edge.zoo.store import Zoo, open_zoo

NAME = "zoos"
FIT = FitConfig(iterations=200, batch_size=64, lr=0.03, distill=0.9)


@dataclass(frozen=True)
class ZooRecipe:
    """What a zoo's specialists are made like."""

    members: int
    ways: int = 5
    keep: float = 0.1
    importance: Importance = "activation"
    paper: str = ""


RECIPES = {
    "taylor": ZooRecipe(20, importance="taylor"),
    "3-way": ZooRecipe(30, ways=3, keep=0.05),
    "10-way": ZooRecipe(30, ways=10, keep=0.15),
}


def rows(context: Context) -> list[Row]:
    """Return a row for each zoo; its accuracy is that of its members on their own tasks' test images."""
    return [_row(context, name) for name in RECIPES]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Build what is missing."""
    teacher = Teacher(context.prunable, context.device)
    for row in rows:
        if row.missing or not context.wants(row):
            continue
        recipe = RECIPES[row.name]
        zoo = fork(context.zoo, path_of(context, row.name), lambda info: info.kind == "generalist")
        config = BuildConfig(
            members=context.steps(recipe.members), ways=recipe.ways, fit=replace(FIT, iterations=row.iterations),
            schedule=PruneSchedule(keep=recipe.keep, every=5, importance=recipe.importance),
        )  # fmt: skip
        have = grow(context, zoo, context.source("cifar100"), config, seconds_each=25 * context.scale, teacher=teacher)
        if have >= config.members:
            scores = [i.top1 for i in zoo.infos() if i.kind == "specialist" and i.top1 is not None]
            found = {"top1": round(sum(scores) / len(scores), 2), "notes": {"members": have}, **IN_PARTS}
            try_once(NAME, row, context, zoo, lambda found=found: found)


def missing(context: Context, name: str) -> str:
    """Say what a zoo lacks; empty if nothing."""
    path, wanted = path_of(context, name), context.steps(RECIPES[name].members)
    have = sum(i.kind == "specialist" for i in open_zoo(str(path)).infos()) if (path / "zoo.json").exists() else 0
    return "" if have >= wanted else f"its zoo has {have} of {wanted} members; run: python -m benchmarks {NAME}"


def opened(context: Context, name: str) -> Zoo:
    """Return a zoo that is complete."""
    return open_zoo(str(path_of(context, name)))


def path_of(context: Context, name: str) -> Path:
    """Return where a zoo is kept; one of other settings, or of other generalists, lies elsewhere."""
    generalist = [i.id for i in context.zoo.infos() if i.kind == "generalist"]
    return context.work / f"{name}-{made_from(context.zoo, **_hyper(context, name), generalist=generalist)}"


def _hyper(context: Context, name: str) -> dict[str, Any]:
    recipe = {**asdict(RECIPES[name]), "members": context.steps(RECIPES[name].members)}
    return {**recipe, **asdict(FIT), "every": 5, "parent": "generalist"}


def _row(context: Context, name: str) -> Row:
    recipe = RECIPES[name]
    steps = context.steps(FIT.iterations)
    method = "ifp-taylor" if recipe.importance == "taylor" else "ifp"
    title = f"{recipe.members} members of {recipe.ways} classes, keep {recipe.keep:g}, {recipe.importance}"
    return Row(name, method, title, None, iterations=steps, keep=recipe.keep, batch=FIT.batch_size,
               hyper=_hyper(context, name), missing=why_not(context, "cifar100", recipe.ways), seconds=0.0)  # fmt: skip


EXPERIMENT = Experiment(NAME, "zoos that other experiments need", "Section 3.1", 50, rows, run)
