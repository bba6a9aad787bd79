"""The second paper's question: one-shot pruning by scores of similar tasks' members, at several memory budgets.

Its formulas have not been found; `smsp` is our reading (similarity-weighted fraction of the neighbours that keep a
unit, one round over all groups). A budget is the number of parameters that the aligned counts of a keep ratio give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from benchmarks.methods import SPECIALISTS, headed, specialist, tuned
from benchmarks.setting import Setting
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import mvp_row, random_row
from benchmarks.suite.running import NotApplicableError, cases, try_rows, why_not
from mvp_edge.budget.costs import costs_of
from mvp_edge.budget.search import Groups, Limit, Utility, search
from mvp_edge.config import FitConfig
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.pruners import base_importance, target_counts, top_plan
from mvp_edge.voting.meta_vote import assemble, count_votes
from mvp_edge.voting.neighbours import vote_weights

NAME = "memory"
TASKS = 10
LANE = 8
KEEPS = (0.05, 0.1, 0.2)
SMSP = replace(SPECIALISTS, method="smsp")


def rows(context: Context) -> list[Row]:
    """Return the four methods at every budget."""
    missing = why_not(context, "cifar100")
    steps = context.steps(100)
    found = []
    for keep in KEEPS:
        size = _budget(context.prunable, keep)
        common: dict[str, Any] = {"missing": missing}
        label = f"{size / 1000:.0f} k parameters"
        fit = FitConfig(iterations=steps)
        found += [
            mvp_row(context, 100, name=f"smsp-{keep:g}", method="smsp", title=f"{label}: SMSP-style (ours)",
                    vote=replace(SMSP, keep=keep), run=_smsp(keep, size, fit), hyper={"params": size}, **common),
            mvp_row(context, 100, name=f"mvp-{keep:g}", title=f"{label}: MVP", vote=replace(SPECIALISTS, keep=keep),
                    hyper={"params": size}, **common),
            Row(f"magnitude-{keep:g}", "magnitude", f"{label}: largest norm scales of the base",
                _magnitude(keep, fit), iterations=steps, keep=keep, dense_iterations=steps * keep**2,
                hyper={"lr": fit.lr, "head": "ridge", "params": size}, seconds=0.15 * steps, **common),
            random_row(context, 100, keep=keep, name=f"random-{keep:g}", title=f"{label}: random units", **common),
        ]  # fmt: skip
    return found


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not why_not(context, "cifar100"):
        try_rows(NAME, rows, cases(context, TASKS))


def _smsp(keep: float, size: int, fit: FitConfig) -> Callable[[Setting], nn.Module]:
    """Return one round over all groups together: the highest scores, in whole lanes, as many as the budget holds."""

    def run(s: Setting) -> nn.Module:
        found = specialist(s)[: SMSP.neighbours]
        table, weights = s.prunable.table, vote_weights(found, replace(SMSP, keep=keep))
        votes = count_votes([n.info.plan for n in found], weights)
        tie = base_importance(s.prunable.model, table)
        scores = {n: v / sum(weights) + 1e-6 * tie[n] / tie[n].max() for n, v in votes.items()}
        costs = costs_of(s.prunable.model, table, s.prunable.base.input_size, s.prunable.head, len(s.task.classes))
        channels = np.array([table.unit_channels[n] for n in costs.names])
        utility = Utility.of([scores[n] for n in costs.names])
        counts = search(Groups.of(costs.widths, channels, LANE), utility, [Limit(costs.params, size)], "global")
        if counts is None:
            raise NotApplicableError("one lane of every group is more than the budget")
        plan = top_plan(table, scores, costs.by_name(counts))
        voters = [s.zoo.load(n.info) for n in found]
        return tuned(s, assemble(s.prunable, plan, voters, s.task, s.train, device=s.device), fit)

    return run


def _magnitude(keep: float, fit: FitConfig) -> Callable[[Setting], nn.Module]:
    def run(s: Setting) -> nn.Module:
        return tuned(s, headed(s, _cut(s.prunable, _plan(s.prunable, keep))), fit)

    return run


def _budget(prunable: PrunableModel, keep: float) -> int:
    """Return the parameters of a five-class network with the counts that MVP keeps."""
    costs = costs_of(prunable.model, prunable.table, prunable.base.input_size, prunable.head, 5)
    return int(costs.params(costs.counts(target_counts(prunable.table, keep, LANE))))


def _plan(prunable: PrunableModel, keep: float) -> KeepPlan:
    return top_plan(
        prunable.table, base_importance(prunable.model, prunable.table), target_counts(prunable.table, keep, LANE)
    )


def _cut(prunable: PrunableModel, plan: KeepPlan) -> nn.Module:
    return sliced_copy(prunable.model, prunable.table, plan)


EXPERIMENT = Experiment(NAME, "one-shot pruning by scores, at memory budgets", "2nd paper", 35, rows, run)
