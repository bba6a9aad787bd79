"""What is known of models without an image: accuracies from what members of the zoo once said of real test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mvp_edge.names.tasks import Task
from mvp_edge.training.loop import Accuracy, score
from mvp_edge.voting.neighbours import ROUNDING, Neighbour, knowing
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo


@dataclass(frozen=True)
class KnownScore:
    """An accuracy on real images that is known without having them here, and where it comes from."""

    accuracy: Accuracy
    source: str


@dataclass(frozen=True)
class Size:
    """A ready-made model of another size.

    Attributes:
        member: Its id in the zoo.
        keep: Ratio to ask for, to get it without images.
        achieved: Fraction of all units that it has.
        top1: Percent on real test images of the task's classes.
    """

    member: str
    keep: float
    achieved: float
    top1: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value."""
        return {**asdict(self), "achieved": round(self.achieved, 4), "top1": round(self.top1, 2)}


def known_score(zoo: Zoo, task: Task, member: MemberInfo) -> KnownScore | None:
    """Return what a member that is delivered as it is scores on its data's test images of the task's classes.

    Raises:
        ZooError: its stored outputs are damaged.
    """
    outputs = zoo.outputs(member)
    if outputs is None:
        return None
    part = outputs.of(task.names, member.task.names)
    data = member.recipe.get("data", "its data")
    source = f"{data}, test split, from the stored outputs of member {member.id}, which this model is"
    return KnownScore(score(part.logits, part.labels, task.names), source)


def known_sizes(zoo: Zoo, task: Task, ranked: Sequence[Neighbour]) -> list[Size]:
    """Return the ready-made models for a task whose accuracy is known, smallest first.

    Raises:
        ZooError: a member's stored outputs are damaged.
    """
    found = []
    for info in (n.info for n in reversed(knowing(ranked, task))):
        known = known_score(zoo, task, info)
        if known is not None:
            found.append(Size(info.id, keep_to_ask_for(info), info.plan.achieved, known.accuracy.top1))
    return found


def keep_to_ask_for(member: MemberInfo) -> float:
    """Return the ratio that gets a member: the one it was made at, unless rounding led too far from that."""
    made_at, achieved = member.recipe.get("keep"), member.plan.achieved
    if isinstance(made_at, int | float) and abs(achieved - made_at) <= ROUNDING:
        return float(made_at)
    return round(achieved, 3)
