"""Initial weights of a voted network: the mean over the voters that kept each entry (Algorithm 1, lines 4-6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mvp_edge.models.groups import GroupTable, kept_positions
from mvp_edge.models.plan import KeepPlan

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Voter:
    """A voter's plan, its sliced tensors and its weight in the mean."""

    plan: KeepPlan
    state: State
    weight: float = 1.0


def average(table: GroupTable, plan: KeepPlan, sliced_base: State, voters: Sequence[Voter]) -> dict[str, Tensor]:
    """Return the tensors of the network that `plan` describes.

    An entry is the weighted mean over the voters that kept both its output and its input unit; the base model's own
    entry where no voter did. Norm statistics and biases are averaged alike. Tensors that voters lack or that have
    another shape (the head) and integer tensors stay as they are in the base.

    Args:
        table: Groups of the base model.
        plan: What the new network keeps.
        sliced_base: State dict of the base model, sliced to `plan`.
        voters: Who is averaged.
    """
    wanted = kept_positions(table, plan)
    total = {k: torch.zeros_like(v) for k, v in sliced_base.items() if v.is_floating_point()}
    weight = {k: torch.zeros_like(v) for k, v in total.items()}
    for voter in voters:
        have = kept_positions(table, voter.plan)
        for name, sums in total.items():
            theirs = voter.state.get(name)
            if theirs is None or theirs.ndim != sums.ndim:
                continue
            value, there = theirs.to(sums.dtype), torch.ones([1] * sums.ndim, dtype=sums.dtype)
            for dim, positions in wanted.get(name, {}).items():
                place, found = _locate(have[name][dim], positions)
                value = value.index_select(dim, place)
                there = there * found.to(sums.dtype).view([-1 if d == dim else 1 for d in range(sums.ndim)])
            if value.shape == sums.shape:
                sums.addcmul_(value, there.expand_as(value), value=voter.weight)
                weight[name].add_(there, alpha=voter.weight)
    result = dict(sliced_base)
    for name, sums in total.items():
        w = weight[name]
        result[name] = torch.where(w > 0, sums / w.clamp(min=1e-12), sliced_base[name])
    return result


def _locate(have: Tensor, want: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each wanted position stands among those at hand, and whether it is there at all."""
    place = torch.searchsorted(have, want).clamp(max=len(have) - 1)
    return place, have[place] == want
