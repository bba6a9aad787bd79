"""Similarity of tasks from the meaning of their class names alone, for any number of tasks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.names.wordnet import class_similarity

_AT_ONCE = 1 << 22  # numbers that are in memory at once: 32 MiB
_STEP = 2.0**-30


@dataclass(frozen=True, eq=False)
class ClassLists:
    """The classes of many resolved tasks.

    Attributes:
        classes: Each class once.
        positions: `(N,)`, integer: which of these each task has, task after task.
        ends: `(tasks,)`, integer: where each task ends in `positions`.
    """

    classes: tuple[TaskClass, ...]
    positions: np.ndarray
    ends: np.ndarray

    @staticmethod
    def of(tasks: Iterable[Task]) -> ClassLists:
        """Return the classes of tasks."""
        known: dict[TaskClass, int] = {}
        positions = [[known.setdefault(c, len(known)) for c in task.classes] for task in tasks]
        flat = np.fromiter((i for each in positions for i in each), np.int32)
        return ClassLists(tuple(known), flat, np.cumsum([len(each) for each in positions], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, task: int) -> Task:
        """Return one of the tasks."""
        begin = self.ends[task - 1] if task else 0
        return Task(tuple(self.classes[i] for i in self.positions[begin : self.ends[task]]))


def rank(task: Task, others: ClassLists) -> np.ndarray:
    """Return the similarity of a resolved task to each of others `(tasks,)`: the symmetric mean of best matches.

    Each class is matched with the nearest class of the other task; the mean over `task`'s classes and the mean over the
    other's are averaged. Sums are exact, so that neither the order of the classes nor the number of tasks changes
    a bit.

    Raises:
        TaskError: A class has a synset that does not exist.
        ValueError: A task has no classes.

    References:
        Meta-Vote Pruning uses Wu-Palmer similarity between classes and does not say how sets of classes are compared:
        the aggregation is ours.
    """
    lengths = np.diff(others.ends, prepend=0)
    if not task.classes or not lengths.all():
        raise ValueError("a task without classes has no similarity")
    table = np.array([[class_similarity(x, y) for y in others.classes] for x in task.classes])
    found = np.empty(len(others))
    step = max(1, _AT_ONCE // max(len(task.classes), int(lengths.max(initial=1))))
    for first in range(0, len(others), step):
        part = slice(first, first + step)
        begins = (others.ends - lengths)[part]
        mine = others.positions[begins[0] : others.ends[part][-1]]
        begins = begins - begins[0]
        forth = _exactly(partial(np.sum, axis=0), np.stack([np.maximum.reduceat(row[mine], begins) for row in table]))
        back = _exactly(partial(np.add.reduceat, indices=begins), table.max(0)[mine])
        found[part] = (forth / len(task.classes) + back / lengths[part]) / 2
    return found


def _exactly(total: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
    """Return sums of values that are 0 or lie between 2 ** -10 and 1, rounded as `math.fsum` does.

    Multiples of a step, and what is left of each value, have so few bits that the sums of a million of either are
    exact: only their own sum is rounded.
    """
    upper = np.rint(values / _STEP) * _STEP
    return total(upper) + total(values - upper)
