"""A target task and what every method is given for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from benchmarks.cascade import answers, ask, largest_knowing
from benchmarks.superclasses import SUPERCLASSES
from mvp_edge.build.sampling import sample_tasks
from mvp_edge.config import Similarity, VoteConfig
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng
from mvp_edge.data import DataSource, ImageSet
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.voting.neighbours import Neighbour, rank
from mvp_edge.zoo.store import Zoo

TASK_SEED = 1000  # never used to build a zoo


@dataclass(frozen=True, eq=False)
class Setting:
    """One target task and what every method is given; what several methods need is computed once."""

    zoo: Zoo
    prunable: PrunableModel
    task: Task
    train: ImageSet
    test: ImageSet
    device: torch.device
    seed: int
    similarity: Similarity = "leep"

    @cached_property
    def ranked(self) -> list[Neighbour]:
        """All members, nearest first; the task's own member, if there is one, is left out."""
        own = frozenset([self.task.id])
        return rank(
            self.zoo, self.prunable, self.task, self.train, VoteConfig(voters="any", similarity=self.similarity),
            device=self.device, seed=self.seed, exclude=own,
        )  # fmt: skip

    @cached_property
    def teacher(self) -> torch.Tensor | None:
        """Logits on the training images to distill from: the base model's where a smaller network is unsure."""
        return by_cascade(self)

    @cached_property
    def base_teacher(self) -> torch.Tensor | None:
        """Logits of the base model alone on the training images."""
        return by_base(self)


def by_cascade(s: Setting) -> torch.Tensor | None:
    """Ask the base model only where the largest generalist is unsure."""
    told = ask(s.prunable, s.task, s.train, s.device, SilentProgress(), s.zoo)
    return None if told is None else told[0]


def by_base(s: Setting) -> torch.Tensor | None:
    """Ask the base model about all images."""
    told = ask(s.prunable, s.task, s.train, s.device, SilentProgress())
    return None if told is None else told[0]


def by_member(s: Setting) -> torch.Tensor | None:
    """Ask the largest generalist about all images."""
    if (member := largest_knowing(s.zoo, s.task)) is None:
        return None
    network = s.zoo.load(member).network(s.prunable)
    return answers(network, member.task.names, s.prunable, s.task, s.train.images, s.device)


def load(source: DataSource, task: Task, size: tuple[int, int], split: str) -> tuple[ImageSet, ImageSet]:
    """Return what to train on and what to score on."""
    images = source.load(task.names, "test" if split == "unseen" else "train", size)
    if split == "test":
        return images, source.load(task.names, "test", size)
    order = rng(0, split).permutation(len(images))
    cut = len(images) // 5
    fifth, others = images.subset(order[:cut]), images.subset(order[cut:])
    return (fifth, others) if split == "unseen" else (others, fifth)


def target_tasks(zoo: Zoo, classes: tuple[str, ...], ways: int, count: int, lists: str = "random") -> list[Task]:
    """Draw tasks whose exact class set is not in the zoo, or take the superclasses of CIFAR-100."""
    if lists == "superclasses":
        return [wordnet.resolve(Task(tuple(map(TaskClass, names)))) for names in SUPERCLASSES.values()][:count]
    taken = {i.task.id for i in zoo.infos()}
    return [t for t in sample_tasks(classes, ways, count + len(taken), TASK_SEED) if t.id not in taken][:count]
