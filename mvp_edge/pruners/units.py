"""What all pruners share: how many units, which of them, and the cut; and plans made in one step, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from mvp_edge.config import ChannelMultiple
from mvp_edge.models.groups import Consumer, GroupTable
from mvp_edge.models.plan import KeepPlan, keep_count, make_plan
from mvp_edge.models.slicing import slice_model


def target_counts(table: GroupTable, keep: float, channel_multiple: ChannelMultiple) -> dict[str, int]:
    """Return the units to keep of every group; the same rule for zoo members, votes and baselines.

    Under `auto` this is the ratio's own count, before it is raised where that costs no time.
    """
    multiple = 1 if channel_multiple == "auto" else channel_multiple
    return {g.name: keep_count(g.width, keep, multiple, g.unit_channels) for g in table.groups}


def base_importance(model: nn.Module, table: GroupTable) -> dict[str, np.ndarray]:
    """Score units without data: mean |scale| of the norms a group runs through, each normalised by its own mean.

    Groups without a norm are scored by the L1 norm of the weights that produce them (Li et al., 2017).
    """
    scores = {}
    for group in table.groups:
        layers = [(model.get_parameter(f"{t.module}.weight"), t.index) for t in group.norms]
        if not layers:
            layers = [
                (model.get_parameter(s.tensor).flatten(1).abs().mean(1), s.index)
                for s in group.dimensions
                if s.dim == 0 and s.tensor.endswith("weight") and model.get_parameter(s.tensor).ndim > 1
            ]
        values = [weight.detach().abs().cpu().double().numpy()[np.asarray(index)].mean(1) for weight, index in layers]
        scores[group.name] = mean_of_normalised(values, group.width)
    return scores


def mean_of_normalised(scores: Sequence[np.ndarray], units: int) -> np.ndarray:
    """Return the mean `(units,)` over several layers' scores, each normalised by its own mean; 0 without layers."""
    total = np.zeros(units)
    for values in scores:
        total += values / max(values.mean(), 1e-12)
    return total / max(1, len(scores))


def highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the positions `(count,)` of the highest scores; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[:count]


def positions_in(consumer: Consumer, kept: Sequence[int]) -> np.ndarray:
    """Return the channels `(kept, channels)` of each kept unit in a consumer's sliced input."""
    place = {p: i for i, p in enumerate(sorted(p for u in kept for p in consumer.index[u]))}
    return np.array([[place[p] for p in consumer.index[u]] for u in kept])


def cut(
    model: nn.Module,
    table: GroupTable,
    plan: KeepPlan,
    chosen: Mapping[str, np.ndarray],
    optimizer: torch.optim.Optimizer,
) -> KeepPlan:
    """Cut a model that keeps `plan` down, in place; return what it keeps then.

    Args:
        model: The network.
        table: Groups of the base model.
        plan: What the network keeps.
        chosen: Positions, among the kept units, of those that stay, by group; other groups keep all.
        optimizer: Its parameters and its state are sliced along.
    """
    kept = {g.name: np.asarray(g.kept)[chosen[g.name]] if g.name in chosen else g.kept for g in plan.groups}
    smaller = make_plan(table.widths, kept)
    slice_model(model, table, smaller, current=plan, optimizer=optimizer)
    return smaller


def top_plan(table: GroupTable, scores: dict[str, np.ndarray], counts: dict[str, int]) -> KeepPlan:
    """Keep the units with the highest scores."""
    return make_plan(table.widths, {n: highest(s, counts[n]) for n, s in scores.items()})


def random_plan(table: GroupTable, counts: dict[str, int], rng: np.random.Generator) -> KeepPlan:
    """Keep units drawn uniformly: the paper's lower bound (Section 5.2)."""
    return make_plan(table.widths, {g.name: rng.choice(g.width, counts[g.name], replace=False) for g in table.groups})
