"""Plans made in one go: at random, or by the base model's own norm scales."""

from __future__ import annotations

import numpy as np
from torch import nn

from mvp_edge.config import ChannelMultiple
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.plan import KeepPlan, keep_count, make_plan


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
        total = np.zeros(group.width)
        for weight, index in layers:
            values = weight.detach().abs().cpu().double().numpy()[np.asarray(index)].mean(1)
            total += values / max(values.mean(), 1e-12)
        scores[group.name] = total / max(1, len(layers))
    return scores


def top_plan(table: GroupTable, scores: dict[str, np.ndarray], counts: dict[str, int]) -> KeepPlan:
    """Keep the units with the highest scores."""
    return make_plan(table.widths, {n: np.argsort(-s, kind="stable")[: counts[n]] for n, s in scores.items()})


def random_plan(table: GroupTable, counts: dict[str, int], rng: np.random.Generator) -> KeepPlan:
    """Keep units drawn uniformly: the paper's lower bound (Section 5.2)."""
    return make_plan(table.widths, {g.name: rng.choice(g.width, counts[g.name], replace=False) for g in table.groups})
