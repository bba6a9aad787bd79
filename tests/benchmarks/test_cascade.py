from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import cascade
from benchmarks.cascade import Asked, answers, ask, largest_knowing
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.zoo.store import Zoo, open_zoo

CPU, SILENT = torch.device("cpu"), SilentProgress()
TASK = wordnet.resolve(Task((TaskClass("tiger"), TaskClass("apple"), TaskClass("rose"))))


@pytest.fixture(scope="module")
def data(images: Path) -> ImageSet:
    return open_source(str(images)).load(TASK.names, "train", (32, 32))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_base_model_answers_where_the_largest_member_is_unsure(
    zoo: Zoo, prunable: PrunableModel, data: ImageSet, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = largest_knowing(zoo, TASK)
    assert first is not None and first.plan.achieved == max(i.plan.achieved for i in zoo.infos())
    member = answers(zoo.load(first).network(prunable), first.task.names, prunable, TASK, data.images, CPU)
    base = answers(prunable.model, prunable.base.classes, prunable, TASK, data.images, CPU)
    sureness = member.softmax(1).amax(1)
    monkeypatch.setattr(cascade, "SURE", float(sureness.quantile(share)) + (1e-6 if share == 1 else 0))
    told = ask(prunable, TASK, data, CPU, SILENT, zoo)
    assert told is not None
    unsure = sureness < cascade.SURE
    torch.testing.assert_close(told[0], torch.where(unsure[:, None], base, member), atol=1e-5, rtol=0)
    assert told[1] == Asked(len(data), int(unsure.sum()), first.id)
    assert told[1].seconds > 0
    assert told[1].base / len(data) == pytest.approx(share, abs=1 / len(data))
    assert not torch.allclose(base, member, atol=0.01)


def test_without_a_zoo_or_a_member_that_knows_the_classes_the_base_model_answers_all(
    zoo: Zoo, tiny_zoo: Path, prunable: PrunableModel, data: ImageSet
) -> None:
    base = answers(prunable.model, prunable.base.classes, prunable, TASK, data.images, CPU)
    for other in (None, open_zoo(str(tiny_zoo))):
        told = ask(prunable, TASK, data, CPU, SILENT, other)
        assert told is not None and told[1] == Asked(len(data), len(data))
        torch.testing.assert_close(told[0], base)


def test_nobody_answers_for_classes_that_the_base_model_does_not_know(
    zoo: Zoo, prunable: PrunableModel, data: ImageSet
) -> None:
    unknown = wordnet.resolve(Task((TaskClass("tiger"), TaskClass("tulip"))))
    assert ask(prunable, unknown, data, CPU, SILENT, zoo) is None
    meant = Task((TASK.classes[0], TaskClass("apple", "apple.n.02"), TASK.classes[2]))  # the tree
    assert ask(prunable, meant, data, CPU, SILENT, zoo) is None
