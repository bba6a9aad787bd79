"""A ready-made body cut to a budget: the units that matter to the photographs stay, projections are solved on them.

photographs -> each hidden unit's share of its block's output -> ever fewer units until the budget is met -> projections
in closed form
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.core.errors import PlanError
from mvp_edge.data import normalise
from mvp_edge.models.bases import Base
from mvp_edge.models.macs import count_params
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.prune.heads import Network
from mvp_edge.pruners.reconstruction import ever_fewer, hidden_groups, importance, reconstructed
from mvp_edge.pruners.units import top_plan
from mvp_edge.zoo.bodies import Body, BodyZoo

CUT_ON = 200  # photographs, at most


def cut(zoo: BodyZoo, body: Body, images: Tensor, meets: Callable[[Network], bool]) -> Network | None:
    """Return the largest part of a body that meets a budget; None if no part does, or the body cannot be cut.

    Photographs on which a network was cut look easier to it than others do, so that they cannot tell how good it is:
    `Network.cut_on` leaves some out.

    Args:
        zoo: Of the body.
        body: One that does not meet the budget.
        images: Photographs at its pixels, uint8 `(N, 3, H, W)`; no labels are needed.
        meets: Says whether a network meets the budget; only its costs and the shapes of its weights count.
    """
    if (prunable := _prunable(zoo, body)) is None:
        return None
    scores = importance(prunable, _normal(prunable, images))
    (whole, _), *path = ever_fewer(prunable, scores)

    def part(at: int) -> Network:
        plan = top_plan(prunable.table, scores, path[at][1])
        return _part(zoo, body, whole - path[at][0], plan, prunable, sliced_copy(prunable.model, prunable.table, plan))

    at = bisect_left(range(len(path)), x=True, key=lambda i: meets(part(i)))
    if at == len(path):
        return None
    macs, counts = path[at]

    def cut_on(some: Tensor) -> Network:
        x = _normal(prunable, some[torch.linspace(0, len(some) - 1, min(len(some), CUT_ON)).round().long()])
        plan = top_plan(prunable.table, importance(prunable, x), counts)
        found = _part(zoo, body, whole - macs, plan, prunable, reconstructed(prunable, plan, x))
        return replace(found, cut_on=cut_on)

    return cut_on(images)


def _prunable(zoo: BodyZoo, body: Body) -> PrunableModel | None:
    """Return a body in torch with its groups; None if it has no hidden units that can go."""
    network = Network.of(zoo, body).in_torch(zoo)[0].eval()
    base = replace(Base.from_json(dict(zoo.about)), input_size=(body.pixels, body.pixels))
    try:
        prunable = PrunableModel.of(base, network)
    except PlanError:
        return None
    return prunable if hidden_groups(prunable.table) else None


def _part(zoo: BodyZoo, body: Body, saved: int, plan: KeepPlan, prunable: PrunableModel, network: nn.Module) -> Network:
    """Return what a plan leaves of a body; it saves so many multiply-adds."""
    outer = zoo.kept(body)
    kept = plan if outer is None else outer.then(plan)
    params = body.params - count_params(prunable.model) + count_params(network)
    return Network(replace(body, macs=body.macs - saved, params=params, keep=kept.achieved), _arrays(network), kept)


def _normal(prunable: PrunableModel, images: Tensor) -> Tensor:
    return normalise(images, prunable.base.mean, prunable.base.std)


def _arrays(network: nn.Module) -> dict[str, np.ndarray]:
    return {k: v.detach().numpy() for k, v in network.state_dict().items()}
