from pathlib import Path

import pytest

from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.zoo.store import Zoo, open_zoo


@pytest.fixture
def zoo(tiny_zoo: Path) -> Zoo:
    return open_zoo(str(tiny_zoo))


@pytest.fixture
def prunable(zoo: Zoo) -> PrunableModel:
    return PrunableModel.of(zoo.base, zoo.load_base())


@pytest.fixture
def task() -> Task:
    return wordnet.resolve(Task((TaskClass("tiger"), TaskClass("chair"), TaskClass("crab"))))


@pytest.fixture
def data(images: Path, task: Task, zoo: Zoo) -> ImageSet:
    return open_source(str(images)).load(task.names, "train", zoo.base.input_size)
