"""A target task and what every method is given for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from mvp_edge.build.members import sample_tasks
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import VoteConfig
from mvp_edge.core.streams import rng
from mvp_edge.data import DataSource, ImageSet
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.voting.neighbours import LeepInputs, Neighbour, rank
from mvp_edge.zoo.store import Zoo

TASK_SEED = 1000  # never used to build a zoo
SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""The 20 superclasses of CIFAR-100, five classes each (Krizhevsky, 2009): lists whose classes resemble each other."""


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

    @cached_property
    def ranked(self) -> list[Neighbour]:
        """All members, nearest first; the task's own member, if there is one, is left out."""
        inputs = LeepInputs(self.prunable, self.train, self.device, self.seed)
        return rank(self.zoo, self.task, VoteConfig(voters="any"), inputs, exclude=frozenset([self.task.id]))

    @cached_property
    def teacher(self) -> torch.Tensor | None:
        """Logits `(N, classes)` of the base model on the training images, None if it does not know the classes."""
        return Teacher(self.prunable, self.device).logits(self.train)


def load(source: DataSource, task: Task, size: tuple[int, int], split: str) -> tuple[ImageSet, ImageSet]:
    """Return what to train on and what to score on.

    `held-out` scores on a fifth of the training images, `unseen` trains on a fifth of the test images, which no member
    has seen, and scores on the others.
    """
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
