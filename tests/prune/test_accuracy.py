from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import RESNET_ZOO, VIT_ZOO
from mvp_edge.config import VoteConfig
from mvp_edge.data import ImageSet
from mvp_edge.models.plan import make_plan
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.accuracy import (
    harmed,
    measured_accuracy,
    ready_made_sizes,
    selecting_keep,
    stored_accuracy,
    wilson,
)
from mvp_edge.voting.neighbours import Neighbour, ready_made
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import open_zoo

FRUIT = wordnet.resolve(Task(tuple(map(TaskClass, ("apple", "orange", "pear", "mushroom", "sweet_pepper")))))


@pytest.mark.parametrize("name", [RESNET_ZOO, VIT_ZOO])
def test_the_ratio_told_gets_the_size_told(name: str) -> None:
    zoo = open_zoo(name)
    ranked = [Neighbour(i, 0.5) for i in zoo.infos()]
    sizes = ready_made_sizes(zoo, FRUIT, ranked)
    assert len(sizes) >= 3 and [s.achieved for s in sizes] == sorted(s.achieved for s in sizes)
    for size in sizes:
        member = ready_made(ranked, FRUIT, size.keep).info
        known = stored_accuracy(zoo, FRUIT, member)
        assert known is not None and (member.id, known.top1) == (size.member, size.top1)


def test_the_sizes_of_a_list() -> None:
    zoo = open_zoo(RESNET_ZOO)
    sizes = ready_made_sizes(zoo, FRUIT, [Neighbour(i, 0.5) for i in zoo.infos()])
    found = [(s.keep, s.top1) for s in sizes]
    assert found == [(0.05, 73.6), (0.1, 84.0), (0.2, 86.6), (0.3, 87.8)]
    assert VoteConfig().keep in [s.keep for s in sizes]


def test_a_member_whose_outputs_were_not_kept_is_left_out(generalist_zoo: Path) -> None:
    zoo = open_zoo(str(generalist_zoo))
    task = wordnet.resolve(Task((TaskClass("tiger"), TaskClass("apple"))))
    ranked = [Neighbour(i, 0.5) for i in zoo.infos()]
    assert len(ready_made_sizes(zoo, task, ranked)) == 2
    mute = [Neighbour(replace(n.info, outputs_sha256=""), n.similarity) for n in ranked]
    assert ready_made_sizes(zoo, task, mute) == ()


@pytest.mark.parametrize(("recipe", "keep"), [({"keep": 0.3}, 0.3), ({"keep": 0.05}, 0.302), ({}, 0.302)])
def test_the_ratio_is_the_one_that_a_member_was_made_at_if_it_is_near(recipe: dict[str, float], keep: float) -> None:
    plan = make_plan({"g": 1000}, {"g": range(302)})
    assert selecting_keep(MemberInfo("m", FRUIT, "generalist", plan, "", recipe)) == keep


@pytest.mark.parametrize(
    ("lost", "won", "said"),
    [
        (0, 0, False),
        (4, 0, False),
        (5, 0, True),
        (0, 9, False),
        (10, 4, False),
        (16, 4, True),
        (8, 2, False),
        (9, 2, True),
    ],
)
def test_harm_is_significant_at_five_percent(lost: int, won: int, said: bool) -> None:
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    before = torch.stack([right] * lost + [wrong] * won + [right] * 50 + [wrong] * 50)
    after = torch.stack([wrong] * lost + [right] * won + [right] * 50 + [wrong] * 50)
    assert harmed(before, after, torch.zeros(len(before), dtype=torch.long)) == said


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(50, 100, 40.4, 59.6), (10, 10, 72.25, 100.0), (0, 10, 0.0, 27.75)]
)
def test_interval_by_hand(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=0.06)


@pytest.mark.parametrize(
    ("right", "coarse", "said"),
    [
        (1.0, 95.5, True),
        (1.0, 94.5, False),  # less than 90 % of what the model has above chance
        (0.6, 57.0, False),  # near chance
        (0.8, 78.0, True),
        (0.8, None, False),
    ],
)
def test_a_model_that_thumbnails_nearly_replace(right: float, coarse: float | None, said: bool) -> None:
    labels = torch.arange(40) % 2
    wrong = torch.arange(40) >= 40 * right
    logits = torch.nn.functional.one_hot(torch.where(wrong, 1 - labels, labels), 2).float()
    test = ImageSet(torch.zeros(40, 3, 1, 1, dtype=torch.uint8), labels, ("a", "b"))
    record, warnings = measured_accuracy(logits, test, None, "data", coarse)
    assert record.balanced == 100 * right
    assert [f"{coarse} %" in each and "8 x 8" in each for each in warnings] == [True] * said
    few = test.subset(range(20))
    assert measured_accuracy(logits[:20], few, None, "data", coarse)[1] == []
