"""From voters to the network before its first training step: votes, averaging, assembly (Algorithm 1, lines 2-6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.config import Vote, VoteConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.groups import GroupTable, kept_positions
from mvp_edge.models.heads import ridge_head, shared_rows
from mvp_edge.models.plan import KeepPlan, make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.models.widening import can_widen, widen_head, zero_new_inputs
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task
from mvp_edge.pruners import base_importance
from mvp_edge.training.loop import reestimate_norms
from mvp_edge.voting.neighbours import Neighbour, vote_weights
from mvp_edge.zoo.member import Member
from mvp_edge.zoo.store import Zoo

State = Mapping[str, Tensor]


def vote(
    zoo: Zoo,
    prunable: PrunableModel,
    neighbours: Sequence[Neighbour],
    config: VoteConfig,
    counts: Mapping[str, int],
    seed: int,
) -> tuple[KeepPlan, list[Member]]:
    """Return the plan that the neighbours vote for, with `counts[group]` units, and the voters with their tensors.

    A generalist that votes alone is followed also where votes are sampled: its units were trained together.

    References:
        Algorithm 1, lines 2-3; Equation 1.
    """
    alone = len(neighbours) == 1 and neighbours[0].info.kind == "generalist"
    plan = select_units(
        count_votes([n.info.plan for n in neighbours], vote_weights(neighbours, config)),
        counts,
        vote="top" if alone else config.vote,
        temperature=config.temperature,
        tie_break=base_importance(prunable.model, prunable.table),
        rng=rng(seed, "vote"),
    )
    return plan, [zoo.load(n.info) for n in neighbours]


def count_votes(plans: Sequence[KeepPlan], weights: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """Return the votes `(width,)` for each unit by group: how many plans keep it; the order of the plans is irrelevant.

    Args:
        plans: Of the voters, all for the same base model.
        weights: Weight of each plan; 1 if not given.
    """
    if not plans:
        raise ValueError("a vote needs at least one plan")
    votes = {name: np.zeros(width) for name, width in plans[0].widths.items()}
    pairs = zip(plans, weights or [1.0] * len(plans), strict=True)
    for plan, weight in sorted(pairs, key=lambda pair: pair[1]):
        for group in plan.groups:
            votes[group.name][list(group.kept)] += weight
    return votes


def select_units(
    votes: Mapping[str, np.ndarray],
    counts: Mapping[str, int],
    *,
    vote: Vote,
    temperature: float,
    tie_break: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> KeepPlan:
    """Return the plan of `counts[group]` units of every group, chosen by their votes.

    Args:
        votes: Votes `(width,)` by group.
        counts: Units to keep by group.
        vote: `sample` draws without replacement with p(k) proportional to exp(votes(k) / temperature); adding Gumbel
            noise and taking the largest does that exactly. `top` is its limit for temperature 0.
        temperature: Tau of Equation 1; above 0.
        tie_break: Importance `(width,)` of the base model's units, which decides between units of equal votes.
        rng: Source of the draws.

    References:
        Equation 1; Kool et al., "Stochastic Beams and Where to Find Them", 2019 (Gumbel top-k).
    """
    kept = {}
    for name, count in votes.items():
        noise = rng.gumbel(size=len(count)) * temperature if vote == "sample" else np.zeros(len(count))
        order = np.lexsort((np.arange(len(count)), -tie_break[name], -(count + noise)))
        kept[name] = order[: counts[name]]
    return make_plan({name: len(v) for name, v in votes.items()}, kept)


def assemble(
    prunable: PrunableModel,
    plan: KeepPlan,
    voters: Sequence[Member],
    task: Task,
    data: ImageSet | None,
    *,
    device: torch.device,
) -> nn.Module:
    """Return the sliced network with the voters' mean weights and a new head, in evaluation mode on `device`.

    The head is fitted to the task's images in closed form, after the norm statistics have been re-estimated on them. A
    single voter that knows all classes and whose units are all kept gives its rows and keeps its statistics: no images
    are needed. Where smaller networks vote for every unit, the base model's own weights stay: what the voters learnt
    suits their few units only.

    References:
        Algorithm 1, lines 4-6.
    """
    model = sliced_copy(prunable.model, prunable.table, plan)
    whole = stays_base(plan, voters)
    averaged = [] if whole else [(v.info.plan, prunable.headless(v.state)) for v in voters]
    model.load_state_dict(average(prunable.table, plan, model.state_dict(), averaged))
    model = on_device(model, device).eval()
    head = None
    if whole:
        classifier = head_of(prunable.model)
        head = _known_rows(task, wordnet.resolve_names(prunable.base.classes), classifier)
    elif len(voters) == 1 and can_widen(prunable.table, plan, voters[0].info.plan):
        # Nothing reads the units that the plan adds to the only voter's: the network starts as the voter itself.
        held = voters[0].info.plan
        model.load_state_dict(zero_new_inputs(prunable.table, plan, held, model.state_dict(), prunable.head))
        rows = _known_rows(task, voters[0].info.task, head_of(voters[0].network(prunable)))
        head = rows and widen_head(rows, prunable.table, plan, held, prunable.head)
    if head is None:
        if data is None:
            raise ValueError("a head that no voter gives is fitted to images")
        if not whole:
            reestimate_norms(model, data.images, prunable.base, device)
        head = ridge_head(model, data, prunable.base, device)
    set_head(model, head.to(device))
    return model


def stays_base(plan: KeepPlan, voters: Sequence[Member]) -> bool:
    """Return whether the base model's own weights stay: every unit is kept, and not by one voter that has them all."""
    return plan.is_full and not (len(voters) == 1 and voters[0].info.plan.is_full)


def _known_rows(task: Task, known: Task, classifier: nn.Linear) -> nn.Linear | None:
    return None if task.unknown_to(known) else shared_rows(task.names, known.names, classifier)


def average(
    table: GroupTable, plan: KeepPlan, sliced_base: State, voters: Sequence[tuple[KeepPlan, State]]
) -> dict[str, Tensor]:
    """Return the tensors of the network that `plan` describes.

    An entry is the mean over the voters that kept both its output and its input unit; the base model's own
    entry where no voter did. Norm statistics and biases are averaged alike. Tensors that voters lack or that have
    another shape (the head) and integer tensors stay as they are in the base.

    Sums are in double precision: the order of the voters does not change a bit of the mean. Equally near voters are
    ordered by name, and training enlarges differences of rounding a thousandfold.

    Args:
        table: Groups of the base model.
        plan: What the new network keeps.
        sliced_base: State dict of the base model, sliced to `plan`.
        voters: Plan and tensors of each.
    """
    wanted = kept_positions(table, plan)
    total = {k: torch.zeros_like(v, dtype=torch.float64) for k, v in sliced_base.items() if v.is_floating_point()}
    holders = {k: torch.zeros_like(v) for k, v in total.items()}
    for held, state in voters:
        have = kept_positions(table, held)
        for name, sums in total.items():
            theirs = state.get(name)
            if theirs is None or theirs.ndim != sums.ndim:
                continue
            value, there = theirs.to(sums.dtype), torch.ones([1] * sums.ndim, dtype=sums.dtype)
            for dim, positions in wanted.get(name, {}).items():
                place, found = _locate(have[name][dim], positions)
                value = value.index_select(dim, place)
                there = there * found.to(sums.dtype).view([-1 if d == dim else 1 for d in range(sums.ndim)])
            if value.shape == sums.shape:
                sums.addcmul_(value, there.expand_as(value))
                holders[name].add_(there)
    result = dict(sliced_base)
    for name, sums in total.items():
        n = holders[name]
        own = sliced_base[name]
        result[name] = torch.where(n > 0, (sums / n.clamp(min=1)).to(own.dtype), own)
    return result


def _locate(have: Tensor, want: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each wanted position is among those at hand, and whether it is there at all."""
    place = torch.searchsorted(have, want).clamp(max=len(have) - 1)
    return place, have[place] == want
