"""Methods of the package as rows of a table, each with its settings and its nominal cost in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from benchmarks.methods import AHNP, IFP_LR, SPECIALISTS, at_random, iterative, scored, voted
from benchmarks.setting import Setting
from benchmarks.suite.cost import ifp_dense_iterations
from benchmarks.suite.experiment import Context, Row
from mvp_edge.config import FitConfig, PruneSchedule, ScoreSchedule, VoteConfig


def mvp_row(
    context: Context, iterations: int, *, name: str = "", title: str = "", vote: VoteConfig = SPECIALISTS,
    fit: FitConfig = FitConfig(), run: Callable[[Setting], nn.Module] | None = None, **fields: Any,
) -> Row:  # fmt: skip
    """Return Meta-Vote Pruning as a row: five nearest specialists by LEEP unless `vote` says otherwise."""
    steps = context.steps(iterations) if iterations else 0
    fit = replace(fit, iterations=steps)
    hyper = {
        "lr": fit.lr, "optimizer": fit.optimizer, "neighbours": vote.neighbours, "voters": vote.voters,
        "vote": vote.vote, "similarity": vote.similarity, "distill": fit.distill,
    }  # fmt: skip
    if fit.distill > 0:
        hyper["teacher"] = "cascade"
    if vote.vote == "sample":
        hyper["tau"] = vote.temperature
    return Row(
        name or f"mvp-{iterations}", fields.pop("method", "mvp"), title or f"MVP, {iterations} iterations",
        run or voted(vote, fit), iterations=steps, keep=vote.keep, dense_iterations=steps * vote.keep**2,
        batch=fit.batch_size, hyper=hyper | fields.pop("hyper", {}), zoo=True, shared=run is None,
        seconds=fields.pop("seconds", 0.15 * steps), **fields,
    )  # fmt: skip


def random_row(
    context: Context, iterations: int, *, keep: float = 0.1, fit: FitConfig = FitConfig(), **fields: Any
) -> Row:
    """Return random pruning: the lower bound of Section 5.2."""
    steps = context.steps(iterations)
    fit = replace(fit, iterations=steps)
    return Row(
        fields.pop("name", f"random-{iterations}"), "random",
        fields.pop("title", f"random units, {iterations} iterations"),
        at_random(fit, keep), iterations=steps, keep=keep, dense_iterations=steps * keep**2,
        batch=fit.batch_size, hyper={"lr": fit.lr, "optimizer": fit.optimizer, "head": "random"}, shared=True,
        seconds=0.15 * steps, **fields,
    )  # fmt: skip


def ifp_row(
    context: Context, iterations: int, *, keep: float = 0.1, batch: int = 128, rate: float = IFP_LR,
    importance: Any = "activation", **fields: Any,
) -> Row:  # fmt: skip
    """Return iterative filter pruning from the base model (Algorithm 2), at the paper's rate unless told otherwise."""
    steps = context.steps(iterations)
    schedule = PruneSchedule(keep=keep, importance=importance)
    every = max(1, steps // 100)
    hyper = {"lr": rate, "drop": schedule.drop, "every": every, "importance": importance, "head": "random"}
    return Row(
        fields.pop("name", f"ifp-{iterations}"), fields.pop("method", "ifp"),
        fields.pop("title", f"IFP, {iterations} iterations"),
        iterative(steps, rate, schedule, batch), iterations=steps, keep=keep,
        dense_iterations=ifp_dense_iterations(schedule, steps), batch=batch, hyper=hyper, shared=True,
        seconds=fields.pop("seconds", 10 + 0.2 * steps), **fields,
    )  # fmt: skip


def ahnp_row(context: Context, iterations: int, *, keep: float = 0.1, rate: float = AHNP.lr, **fields: Any) -> Row:
    """Return automatic head and node pruning from the base model, at the paper's rate unless told otherwise.

    Its nominal cost is an upper bound: the whole network until the target must be reached, keep squared after that.
    """
    steps = context.steps(iterations)
    scores, fit = ScoreSchedule(), replace(AHNP, iterations=steps, lr=rate)
    return Row(
        fields.pop("name", f"ahnp-{iterations}"), "ahnp", fields.pop("title", f"AHNP, {iterations} iterations"),
        scored(fit, keep), iterations=steps, keep=keep,
        dense_iterations=steps * (scores.share + (1 - scores.share) * keep**2),
        hyper={"lr": fit.lr, "optimizer": fit.optimizer, "head": "random", "scores": asdict(scores)}, shared=True,
        seconds=10 + 0.3 * steps, **fields,
    )  # fmt: skip
