"""Zero-initialised widening: new units that change no output at first (Net2Net, Chen et al., 2016).

A new unit takes its input weights from the base model. The weights that read it are zero until training changes them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mvp_edge.models.groups import GroupTable, kept_positions
from mvp_edge.models.plan import KeepPlan


def contains(plan: KeepPlan, smaller: KeepPlan) -> bool:
    """Return whether a plan keeps all that a smaller one for the same base keeps."""
    return plan.widths == smaller.widths and all(set(g.kept) <= set(plan[g.name]) for g in smaller.groups)


def can_widen(table: GroupTable, plan: KeepPlan, held: KeepPlan) -> bool:
    """Return whether a network that keeps `held` can be widened to `plan` and compute the same.

    A layer norm takes its mean and variance over all channels, those that nothing reads included.
    """
    if not contains(plan, held):
        return False
    grown = [g for g in table.groups if plan[g.name] != held[g.name]]
    dimensions = {dimension.tensor for group in grown for dimension in group.dimensions}
    return all(f"{norm.module}.running_mean" in dimensions for group in grown for norm in group.norms)


def zero_new_inputs(
    table: GroupTable, plan: KeepPlan, held: KeepPlan, state: Mapping[str, Tensor], head: str
) -> dict[str, Tensor]:
    """Return tensors in which no layer but the head reads the units of `plan` that `held` lacks.

    Args:
        table: Groups of the base model.
        plan: What the tensors keep.
        held: What the trained network keeps, part of `plan`.
        state: Tensors sliced to `plan`.
        head: Name of the classifier, which is left alone.
    """
    inputs = {f"{c.module}.weight" for group in table.groups for c in group.consumers} - {f"{head}.weight"}
    have, want = kept_positions(table, held), kept_positions(table, plan)
    result = dict(state)
    for name in inputs & want.keys():
        if 1 in want[name]:  # a grouped convolution has no such dimension: its units read themselves only
            read = torch.isin(want[name][1], have[name][1])
            shape = [-1 if d == 1 else 1 for d in range(state[name].ndim)]
            result[name] = state[name] * read.to(state[name]).view(shape)
    return result


def widen_head(rows: nn.Linear, table: GroupTable, plan: KeepPlan, held: KeepPlan, head: str) -> nn.Linear:
    """Return a classifier of a network that keeps `held` for one that keeps `plan`; it does not read the new units."""
    name = f"{head}.weight"
    have, want = (kept_positions(table, p).get(name, {}).get(1) for p in (held, plan))
    if have is None or want is None or len(have) == len(want):
        return rows
    wide = nn.Linear(len(want), rows.out_features)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, torch.isin(want, have)] = rows.weight
        wide.bias.copy_(rows.bias)
    return wide
