"""Methods of the package as rows of a table, each with its settings and its nominal cost in one place."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from benchmarks.cost import ifp_dense_iterations
from benchmarks.methods import AHNP, IFP_LR, SPECIALISTS, Method, at_random, iterative, scored, voted
from benchmarks.suite import Context, Row
from mvp_edge.config import FitConfig, PruneSchedule, ScoreSchedule, VoteConfig


def mvp_row(
    context: Context, iterations: int, *, vote: VoteConfig = SPECIALISTS, fit: FitConfig = FitConfig(),
    run: Method | None = None, hyper: dict[str, Any] | None = None, **fields: Any,
) -> Row:  # fmt: skip
    """Return Meta-Vote Pruning as a row: five nearest specialists by LEEP unless `vote` says otherwise."""
    steps = context.steps(iterations) if iterations else 0
    fit = replace(fit, iterations=steps)
    own: dict[str, Any] = {
        "lr": fit.lr, "optimizer": fit.optimizer, "neighbours": vote.neighbours, "voters": vote.voters,
        "vote": vote.vote, "similarity": vote.similarity, "distill": fit.distill,
    }  # fmt: skip
    own |= {"teacher": "base"} if fit.distill > 0 else {}
    own |= {"tau": vote.temperature} if vote.vote == "sample" else {}
    named = {"name": f"mvp-{iterations}", "method": "mvp", "title": f"MVP, {iterations} iterations"}
    return Row(**{
        **named, "run": run or voted(vote, fit), "iterations": steps, "keep": vote.keep,
        "dense_iterations": steps * vote.keep**2, "batch": fit.batch_size, "hyper": own | (hyper or {}), "votes": True,
        **fields,
    })  # fmt: skip


def random_row(
    context: Context, iterations: int, *, keep: float = 0.1, fit: FitConfig = FitConfig(), **fields: Any
) -> Row:
    """Return random pruning: the lower bound of Section 5.2."""
    steps = context.steps(iterations)
    fit = replace(fit, iterations=steps)
    named = {"name": f"random-{iterations}", "title": f"random units, {iterations} iterations"}
    return Row(**{
        **named, "method": "random", "run": at_random(fit, keep), "iterations": steps, "keep": keep,
        "dense_iterations": steps * keep**2, "batch": fit.batch_size,
        "hyper": {"lr": fit.lr, "optimizer": fit.optimizer, "head": "random"}, **fields,
    })  # fmt: skip


def ifp_row(
    context: Context, iterations: int, *, keep: float = 0.1, batch: int = 128, rate: float = IFP_LR, **fields: Any
) -> Row:
    """Return iterative filter pruning from the base model (Algorithm 2), at the paper's rate by default."""
    steps = context.steps(iterations)
    schedule = PruneSchedule(keep=keep, importance="activation")
    hyper = {"lr": rate, "drop": schedule.drop, "every": max(1, steps // 100), "importance": schedule.importance,
             "head": "random"}  # fmt: skip
    named = {"name": f"ifp-{iterations}", "method": "ifp", "title": f"IFP, {iterations} iterations"}
    return Row(**{
        **named, "run": iterative(steps, rate, schedule, batch), "iterations": steps, "keep": keep,
        "dense_iterations": ifp_dense_iterations(schedule, steps), "batch": batch, "hyper": hyper, **fields,
    })  # fmt: skip


def ahnp_row(context: Context, iterations: int, *, keep: float = 0.1, rate: float = AHNP.lr, **fields: Any) -> Row:
    """Return automatic head and node pruning from the base model, at the paper's rate unless another is given.

    Its nominal cost is an upper bound: the whole network until the target must be reached, keep squared after that.
    """
    steps = context.steps(iterations)
    scores, fit = ScoreSchedule(), replace(AHNP, iterations=steps, lr=rate)
    named = {"name": f"ahnp-{iterations}", "title": f"AHNP, {iterations} iterations"}
    return Row(**{
        **named, "method": "ahnp", "run": scored(fit, keep), "iterations": steps, "keep": keep,
        "dense_iterations": steps * (scores.share + (1 - scores.share) * keep**2),
        "hyper": {"lr": fit.lr, "optimizer": fit.optimizer, "head": "random", "scores": asdict(scores)}, **fields,
    })  # fmt: skip
