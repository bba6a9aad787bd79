"""Random tasks for the specialists of a zoo."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mvp_edge.config import BuildConfig
from mvp_edge.data import DataSource
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.streams import rng
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.models.prunable import PrunableModel


def specialist_tasks(prunable: PrunableModel, data: DataSource, config: BuildConfig) -> list[Task]:
    """Return the tasks of the specialists that settings ask for.

    Raises:
        ConfigError: there are not so many.
    """
    return sample_tasks(prunable.base.classes or data.classes, config.ways, config.members, config.seed)


def sample_tasks(classes: Sequence[str], ways: int, count: int, seed: int) -> list[Task]:
    """Draw `count` different tasks of `ways` classes each; the first k are the same for every count (Section 3.1).

    Raises:
        ConfigError: there are not so many.
    """
    if count == 0:
        return []
    if not 2 <= ways <= len(classes):
        raise ConfigError(f"ways is {ways}; the data have {len(classes)} classes, so it must be in 2..{len(classes)}")
    if count > (most := math.comb(len(classes), ways)):
        raise ConfigError(f"members is {count}; {len(classes)} classes make only {most} tasks of {ways} ways")
    draw = rng(seed, "tasks")
    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        chosen = sorted(int(i) for i in draw.choice(len(classes), ways, replace=False))
        task = Task(tuple(TaskClass(classes[i]) for i in chosen))
        tasks.setdefault(task.id, task)
    return [wordnet.resolve(t) for t in tasks.values()]
