"""Where a model comes from: a vote, one member's units and weights, a member as it is, or the base itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mvp_edge.config import Method
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.widening import contains
from mvp_edge.prune.tuning import Tuned
from mvp_edge.voting.neighbours import Neighbour

Origin = Literal["vote", "member", "ready-made", "base"]
VOTES: dict[Method, str] = {"mvp": "meta-vote pruning", "smsp": "SMSP-style scores over all groups, our reading"}
OTHERS: dict[Origin, str] = {
    "member": "a generalist's units and weights, trained on for these classes",
    "ready-made": "a ready-made generalist, as it is",
    "base": "nothing cut off: the whole base model",
}


def origin_of(plan: KeepPlan, neighbours: Sequence[Neighbour], tuned: Tuned) -> Origin:
    """Say where a model comes from.

    Args:
        plan: What it keeps.
        neighbours: Who voted.
        tuned: How it was fine-tuned. Where images that were left out gained nothing by it, the member is as it was.
    """
    if plan.is_full:
        return "base"
    alone = neighbours[0].info if len(neighbours) == 1 else None
    if alone is None or alone.kind != "generalist":
        return "vote"
    return "ready-made" if tuned.untouched and contains(plan, alone.plan) else "member"


def method_in_words(origin: Origin, method: Method) -> str:
    """Return by what a model was made, as a report says it."""
    return VOTES[method] if origin == "vote" else OTHERS[origin]
