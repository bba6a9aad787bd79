"""What the base model says of images, at a fraction of its price: it is asked where a smaller network is not sure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mvp_edge.core.device import on_device
from mvp_edge.core.progress import Progress, Stage
from mvp_edge.data import ImageSet
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, canonical, numbered
from mvp_edge.training.loop import predict
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo

# Probability of the likeliest of the task's classes; chosen on held-out images, see docs/measurements.md.
SURE = 0.98


@dataclass(frozen=True)
class Asked:
    """Who was asked about how many images.

    Attributes:
        images: All images.
        base: Those that the base model was asked about.
        member: Id of the generalist that was sure of the others, if there is one.
        seconds: How long that took.
    """

    images: int
    base: int
    member: str | None = None
    seconds: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value."""
        return {"images": self.images, "base": self.base, "member": self.member}


def ask(
    prunable: PrunableModel,
    task: Task,
    data: ImageSet,
    device: torch.device,
    progress: Progress,
    zoo: Zoo | None = None,
) -> tuple[Tensor, Asked] | None:
    """Return logits `(N, classes)` for the task's classes, or None if the base model does not know them all.

    Args:
        prunable: The base model.
        task: The classes.
        data: Images.
        device: Where.
        progress: Who is told how far it is.
        zoo: Its largest generalist that knows the classes answers first, and the base model only where that is less
            than `SURE`. Without a zoo the base model answers all.

    Raises:
        ZooError: the member's file is damaged.

    References:
        Wang et al., "Wisdom of Committees: An Overlooked Approach To Faster and More Accurate Models", 2022.
    """
    if task.unknown_to(wordnet.resolve_names(prunable.base.classes)):
        return None
    began = time.perf_counter()
    first = None if zoo is None else largest_knowing(zoo, task)
    logits, unsure = torch.empty(len(data), len(task.names)), torch.ones(len(data), dtype=torch.bool)
    if zoo is not None and first is not None:
        with progress.stage("Asking the largest member", len(data)) as stage:
            member = zoo.load(first).network(prunable)
            logits = answers(member, first.task.names, prunable, task, data.images, device, stage)
        unsure = logits.softmax(1).amax(1) < SURE
    if remaining := int(unsure.sum()):
        with progress.stage("Asking the base model", remaining) as stage:
            images = data.images[unsure]
            logits[unsure] = answers(prunable.model, prunable.base.classes, prunable, task, images, device, stage)
    return logits, Asked(len(data), remaining, None if first is None else first.id, time.perf_counter() - began)


def largest_knowing(zoo: Zoo, task: Task) -> MemberInfo | None:
    """Return the largest generalist that knows all classes of a task, if there is one."""
    return next(iter(zoo.knowing(task)), None)


def answers(
    network: nn.Module, known: Sequence[str], prunable: PrunableModel, task: Task, images: Tensor, device: torch.device,
    stage: Stage | None = None,
) -> Tensor:  # fmt: skip
    """Return the logits `(N, classes)` for a task's classes of a network that has an output for each `known` class."""
    column = numbered(known)
    network = on_device(network, device)
    logits = predict(network, images, prunable.base, device, stage=stage, bf16=True)
    return logits[:, [column[canonical(n)] for n in task.names]]
