"""Table 2: MVP and its rivals on a vision transformer; last what the tool's default gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks.experiments import vit
from benchmarks.experiments.rates import VARIANTS, rival_row, suited, unchosen
from benchmarks.methods import EQUATION_1
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import ahnp_row, mvp_row, random_row
from benchmarks.suite.running import cases, try_rows
from mvp_edge.config import FitConfig, VoteConfig

NAME = "table2"
TASKS = 5
GENERALIST = VoteConfig(voters="generalist")


def rows(context: Context) -> list[Row]:
    """Return the rows of the table, in the paper's order; MVP's own is split in two, as its vote is a setting here."""
    common: dict[str, Any] = {"base": vit.BASE, "missing": vit.missing(context)}
    return [
        ahnp_row(context, 1000, paper="89.48", **common),
        *_suited(context, "ahnp", partial(_ahnp_at, context), common),
        ahnp_row(context, 100, **common),
        random_row(context, 100, fit=vit.FIT, paper="58.71", **common),
        *_suited(context, "random-vit", partial(_random_at, context), common),
        _rival(context, "uvc", "UVC", paper="80.30", **common),
        _rival(context, "power", "PoWER", paper="77.76", **common),
        mvp_row(context, 100, fit=vit.FIT, title="MVP, top votes, 100 iterations", **common),
        *_suited(context, "mvp-vit", partial(_mvp_at, context), common),
        mvp_row(context, 100, fit=vit.FIT, vote=EQUATION_1, name="mvp-sample-100", paper="89.23",
                title="MVP, votes sampled as in Equation 1, 100 iterations", **common),
        mvp_row(context, 0, fit=replace(vit.OURS, iterations=0), vote=GENERALIST, name="generalist-0",
                title="ours: a generalist, as it is", seconds=1.0, **common),
        mvp_row(context, 100, fit=vit.OURS, vote=GENERALIST, name="generalist-distilled",
                title="ours, the default: a generalist, 100 iterations with distillation", **common),
    ]  # fmt: skip


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not vit.missing(context):
        try_rows(NAME, rows, cases(context, TASKS, zoo=vit.opened(context)))


def _suited(context: Context, method: str, row: Callable[..., Row], common: Mapping[str, Any]) -> list[Row]:
    """Return a row at the rate that suits a method, unless that is the one that it has anyway."""
    undecided, fit = unchosen(context, method), suited(context, method)
    if not undecided and fit.lr == VARIANTS[method].fit.lr:
        return []
    fields: dict[str, Any] = {**common, "missing": common["missing"] or undecided}
    return [row(fit, **fields)]


def _ahnp_at(context: Context, fit: FitConfig, **fields: Any) -> Row:
    title = "AHNP, 1000 iterations, a rate that suits it"
    return ahnp_row(context, 1000, name="ahnp-rate-1000", title=title, rate=fit.lr, **fields)


def _random_at(context: Context, fit: FitConfig, **fields: Any) -> Row:
    title = "random units, 100 iterations, a rate that suits them"
    return random_row(context, 100, name="random-rate-100", title=title, fit=fit, **fields)


def _mvp_at(context: Context, fit: FitConfig, **fields: Any) -> Row:
    title = "MVP, top votes, 100 iterations, a rate that suits it"
    return mvp_row(context, 100, name="mvp-rate-100", title=title, fit=fit, **fields)


def _rival(context: Context, method: str, title: str, **fields: Any) -> Row:
    """Return a rival; its nominal cost is that of its bound over all iterations, as the paper's own figures are."""
    fit, settings = suited(context, method), VARIANTS[method].settings(context)
    hyper = {**settings, "optimizer": fit.optimizer, "distill": fit.distill}
    return rival_row(
        context, method, f"{title}, 100 iterations", VARIANTS[method].train(context), hyper,
        dense_iterations=settings["keep"] * context.steps(100), **fields,
    )  # fmt: skip


EXPERIMENT = Experiment(NAME, "does it hold for vision transformers?", "Table 2", 60, rows, run)
