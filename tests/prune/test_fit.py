from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mvp_edge.config import FitConfig, FitOverrides, PruneConfig, VoteConfig
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.fit import (
    JUDGED_IMAGES,
    MANY_IMAGES,
    Tuned,
    a_tenth,
    gentle,
    hold_out,
    imbalanced,
    is_low_data,
    tune,
    tune_checked,
    tune_low_data,
)
from mvp_edge.training.interpolation import Fold, Interpolation
from mvp_edge.training.loop import BatchSource
from mvp_edge.voting.meta_vote import assemble
from mvp_edge.voting.neighbours import knowing, rank
from mvp_edge.zoo.store import Zoo

Run = Callable[..., Tuned]
CPU = torch.device("cpu")
FIT = FitConfig(iterations=4, batch_size=4, lr=0.01)
TASK = wordnet.resolve(Task((TaskClass("tiger"), TaskClass("apple"))))


@pytest.fixture
def model(zoo: Zoo, prunable: PrunableModel) -> nn.Module:
    ranked = rank(zoo, TASK, VoteConfig())
    member = zoo.load(knowing(ranked, TASK)[-1].info)
    return assemble(prunable, member.info.plan, [member], TASK, None, device=CPU)


@pytest.fixture
def train(images: Path) -> ImageSet:
    return open_source(str(images)).load(TASK.names, "train", (32, 32))


@pytest.fixture
def run(model: nn.Module, prunable: PrunableModel) -> Run:
    return lambda how, data, config=FIT: how(
        model, prunable.base, data, config, device=CPU, seed=0, progress=SilentProgress()
    )


def test_few_images_are_trained_on_gently(run: Run, train: ImageSet) -> None:
    tuned = run(tune_low_data, train)
    assert tuned.fit == gentle(FIT)
    assert (tuned.fit.iterations, tuned.fit.batch_size) == (2, 4)
    assert tuned.fit.lr == pytest.approx(0.01 / 3)
    assert tuned.interpolation is not None and tuned.iterations == 6


CONFIG = PruneConfig(TASK, "photos")


def numbered(per_class: int, classes: int = 5) -> ImageSet:
    """Return images that differ, sorted by class as they are read."""
    count = per_class * classes
    pixels = torch.arange(count, dtype=torch.int32).view(torch.uint8).view(count, 4)[:, :3].reshape(count, 3, 1, 1)
    labels = torch.arange(classes).repeat_interleave(per_class)
    return ImageSet(pixels.contiguous(), labels, tuple(map(str, range(classes))))


@pytest.mark.parametrize(
    ("change", "works", "per_class", "expected"),
    [
        ({}, True, 399, True),
        ({}, True, MANY_IMAGES // 5, False),
        ({}, False, 20, False),
        ({"schedule": "fixed"}, True, 20, False),
        ({"fit": FitOverrides(iterations=0)}, True, 20, False),
    ],
)
def test_few_images_decide_how_much_of_the_training_is_kept(
    change: dict[str, Any], works: bool, per_class: int, expected: bool
) -> None:
    assert is_low_data(numbered(per_class), replace(CONFIG, **change), works=works) is expected


@pytest.mark.parametrize(("per_class", "classes", "held"), [(500, 5, 250), (50, 5, 25), (60, 100, 500), (3000, 2, 500)])
def test_a_tenth_of_each_class_is_held_out_at_most_500_in_all(per_class: int, classes: int, held: int) -> None:
    data = numbered(per_class, classes)
    trained, unseen = hold_out(data, None, CONFIG, low_data=False)
    assert unseen is not None and (len(trained), len(unseen)) == (len(data) - held, held)
    assert torch.bincount(unseen.labels).tolist() == [held // classes] * classes
    both = torch.cat([trained.images, unseen.images])
    assert len(both.unique(dim=0)) == len(data)
    again = hold_out(data, None, replace(CONFIG, seed=1), low_data=False)[1]
    assert again is not None and not torch.equal(again.images, unseen.images)


@pytest.mark.parametrize(
    ("per_class", "low_data", "change"),
    [
        (500, True, {}),
        (40, False, {}),
        (500, False, {"precision": "fp32", "schedule": "fixed"}),
        (500, False, {"precision": "fp32", "fit": FitOverrides(iterations=0)}),
    ],
)
def test_nothing_is_held_out_where_it_decides_nothing(per_class: int, low_data: bool, change: dict[str, Any]) -> None:
    data = numbered(per_class)
    assert hold_out(data, None, replace(CONFIG, **change), low_data=low_data) == (data, None)
    assert JUDGED_IMAGES > 40 // 10 * 5


def test_training_of_one_precision_is_checked_too() -> None:
    held = hold_out(numbered(500), None, replace(CONFIG, precision="fp32"), low_data=False)[1]
    assert held is not None and len(held) == 250


def test_classes_of_any_size_are_held_out() -> None:
    data = numbered(25).subset([*range(25), *range(25, 28), *range(50, 52)])
    rest, held = a_tenth(data, 0)
    assert torch.bincount(held.labels).tolist() == [3, 1]
    assert torch.bincount(a_tenth(data, 0, least=2)[1].labels).tolist() == [3, 1, 1]
    assert len(torch.cat([rest.images, held.images]).unique(dim=0)) == len(data)


def test_groups_are_held_out_as_a_whole() -> None:
    data = numbered(50)
    count = len(data.classes)
    for groups in (torch.arange(len(data)) // 5, torch.arange(len(data)) % 50):  # of one class, or of all
        rest, held = a_tenth(replace(data, groups=groups), 0)
        assert rest.groups is not None and held.groups is not None
        assert torch.bincount(held.labels).tolist() == [5] * count
        assert not set(rest.groups.tolist()) & set(held.groups.tolist())
    large = torch.tensor([0] * 20 + [1] * 15 + [2] * 15)  # none fits into a tenth
    groups = torch.cat([large + 3 * k for k in range(count)])
    rest, held = a_tenth(replace(data, groups=groups), 0)
    assert torch.bincount(held.labels).tolist() == [15] * count
    whole = torch.arange(len(data)) // 50  # a class is a group
    assert len(a_tenth(replace(data, groups=whole), 0)[1]) == 0


def test_validation_images_serve_where_there_are_enough() -> None:
    data, many, few = numbered(500), numbered(5), numbered(4)
    for low_data in (True, False):
        assert hold_out(data, many, CONFIG, low_data=low_data) == (data, many)
    held = hold_out(data, few, CONFIG, low_data=False)[1]
    assert held is not None and len(held) == 250


def test_cross_validation_leaves_images_and_a_network_that_has_not_seen_them(run: Run, train: ImageSet) -> None:
    unseen = run(tune_low_data, train).unseen
    assert unseen is not None and unseen.state is not None
    assert len(unseen.images) + len(unseen.trained) == len(train)
    held, learned = ({i.numpy().tobytes() for i in part.images} for part in (unseen.images, unseen.trained))
    assert not held & learned


def test_no_iterations_are_no_training(run: Run, model: nn.Module, train: ImageSet) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    none = replace(FIT, iterations=0)
    tuned = run(tune, train, none)
    assert (tuned.fit, tuned.interpolation, tuned.unseen) == (none, None, None)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_single_image_of_a_class_leaves_the_member_as_it_is(run: Run, model: nn.Module, train: ImageSet) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tuned = run(tune_low_data, train.subset([0, 1, 2, len(train) - 1]))
    assert tuned.iterations == 0
    assert "a class has a single image" in tuned.warnings[0]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_what_images_left_out_decided_is_told(run: Run, train: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    top1, fold = {0.0: 90.0, 1.0: 80.0}, Fold(torch.tensor([0]), torch.tensor([1]), {})
    monkeypatch.setattr(
        "mvp_edge.prune.fit.tune_interpolated", lambda *_, **__: (Interpolation(0.0, 16, 3, dict(top1), top1), fold)
    )
    (warning,) = run(tune_low_data, train).warnings
    assert "balanced accuracy 90.0 % without, 80.0 % with it" in warning
    assert "--schedule fixed" in warning
    monkeypatch.setattr(
        "mvp_edge.prune.fit.tune_interpolated", lambda *_, **__: (Interpolation(0.5, 16, 3, dict(top1), top1), fold)
    )
    assert run(tune_low_data, train).warnings == ()


def _uneven(train: ImageSet) -> ImageSet:
    large, small = ((train.labels == label).nonzero().flatten().repeat(12) for label in (0, 1))
    return train.subset(torch.cat([large[:12], small[:3]]))


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("harmful", [True, False])
def test_training_that_harms_held_out_images_is_left_out(
    run: Run, model: nn.Module, train: ImageSet, monkeypatch: pytest.MonkeyPatch, harmful: bool, few: bool
) -> None:
    data = _uneven(train)
    assert imbalanced(data)
    before, drawn = {k: v.clone() for k, v in model.state_dict().items()}, list[int]()

    def spoil(model: nn.Module, source: BatchSource, *args: object, **extra: object) -> None:
        drawn.append(len(source.images))
        for tensor in model.state_dict().values():
            tensor.mul_(0).add_(1)

    scores = iter([50.0, 49.0 if harmful else 50.0])
    monkeypatch.setattr("mvp_edge.prune.fit.fit", spoil)
    monkeypatch.setattr("mvp_edge.prune.fit.balanced_top1", lambda *_: next(scores))
    tuned = run(partial(tune_checked, held=None if few else data), data)
    same = all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert same == tuned.untouched == harmful
    assert (tuned.unseen is not None) == few
    assert ("balanced accuracy 50.0 % without, 49.0 % with it" in "".join(tuned.warnings)) == harmful
    assert drawn == ([12] if few else [15]) + ([15] if few and not harmful else [])  # in the end, all
    assert tuned.iterations == len(drawn) * FIT.iterations  # those of trainings that only judged count, too


def test_images_of_which_none_can_be_held_out_change_nothing(run: Run, train: ImageSet) -> None:
    tuned = run(partial(tune_checked, held=None), train.subset([0, len(train) - 1]))
    assert tuned.untouched and tuned.iterations == 0 and "of each class there is a single image" in tuned.warnings[0]


def test_imbalanced_images_are_cross_validated_however_many(train: ImageSet) -> None:
    config = PruneConfig(task=TASK, data="photos")
    many = _uneven(train).subset(list(range(15)) * 200)
    assert len(many) > MANY_IMAGES
    assert is_low_data(many, config, works=True)
    assert not is_low_data(many, config, works=False)
    assert not is_low_data(many, replace(config, schedule="fixed"), works=True)
