"""Meta-Vote Pruning up to the first training step: vote, slice, average, new head (Algorithm 1, lines 2-8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from mvp_edge.config import VoteConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.heads import ridge_head, shared_rows
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.models.widening import can_widen, widen_head, zero_new_inputs
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task
from mvp_edge.pruners import base_importance
from mvp_edge.training.loop import reestimate_norms
from mvp_edge.voting.averaging import Voter, average
from mvp_edge.voting.neighbours import Neighbour
from mvp_edge.voting.voters import vote_weights
from mvp_edge.voting.votes import count_votes, select_units
from mvp_edge.zoo.member import Member
from mvp_edge.zoo.store import Zoo


def vote(
    zoo: Zoo,
    prunable: PrunableModel,
    neighbours: Sequence[Neighbour],
    config: VoteConfig,
    counts: Mapping[str, int],
    seed: int,
) -> tuple[KeepPlan, list[Member]]:
    """Let neighbours vote on `counts[group]` units to keep; return the plan and the voters with their tensors.

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


def stays_base(plan: KeepPlan, voters: Sequence[Member]) -> bool:
    """Say whether the base model's own weights stay: every unit is kept, and not by a lone voter that has them all."""
    return plan.is_full and not (len(voters) == 1 and voters[0].info.plan.is_full)


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

    The head is fitted to the task's images in closed form, after the norm statistics have been re-estimated on them; a
    single voter that knows all classes and whose units are all kept gives its rows and keeps its statistics, and needs
    no images. Where smaller networks vote for every unit, the base model's own weights stay: what they have learnt
    suits their few units only.

    References:
        Algorithm 1, lines 4-6.
    """
    model = sliced_copy(prunable.model, prunable.table, plan)
    whole = stays_base(plan, voters)
    ballots = [] if whole else [Voter(v.info.plan, prunable.headless(v.state)) for v in voters]
    model.load_state_dict(average(prunable.table, plan, model.state_dict(), ballots))
    model = on_device(model, device).eval()
    head = None
    if whole:
        classifier = head_of(prunable.model)
        head = _known_rows(task, wordnet.resolve_names(prunable.base.classes), classifier)
    elif len(voters) == 1 and can_widen(prunable.table, plan, voters[0].info.plan):
        # What the plan adds to the only voter's units is silent at first: the network starts as the voter itself.
        model.load_state_dict(
            zero_new_inputs(prunable.table, plan, voters[0].info.plan, model.state_dict(), prunable.head)
        )
        classifier = head_of(voters[0].network(prunable))
        rows = _known_rows(task, voters[0].info.task, classifier)
        head = rows and widen_head(rows, prunable.table, plan, voters[0].info.plan, prunable.head)
    if head is None:
        if data is None:
            raise ValueError("a head that no voter gives is fitted to images")
        if not whole:
            reestimate_norms(model, data.images, prunable.base, device)
        head = ridge_head(model, data, prunable.base, device)
    set_head(model, head.to(device))
    return model


def _known_rows(task: Task, known: Task, classifier: nn.Linear) -> nn.Linear | None:
    return None if task.unknown_to(known) else shared_rows(task.names, known.names, classifier)
