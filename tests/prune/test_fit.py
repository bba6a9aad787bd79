from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mvp_edge.config import FitConfig, VoteConfig
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.fit import MANY_IMAGES, Tuned, gentle, tune, tune_low_data
from mvp_edge.training.interpolation import Interpolation
from mvp_edge.voting.meta_vote import assemble
from mvp_edge.voting.neighbours import knowing, rank
from mvp_edge.zoo.store import Zoo

Run = Callable[..., Tuned]
CPU = torch.device("cpu")
FIT = FitConfig(iterations=4, batch_size=4, lr=0.01)
TASK = wordnet.resolve(Task((TaskClass("tiger"), TaskClass("apple"))))


@pytest.fixture
def model(zoo: Zoo, prunable: PrunableModel) -> nn.Module:
    ranked = rank(zoo, None, TASK, None, VoteConfig(), device=CPU, seed=0)
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


def test_many_images_are_trained_on_as_the_settings_say(
    run: Run, train: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvp_edge.prune.fit.MANY_IMAGES", len(train))
    assert run(tune_low_data, train) == Tuned(FIT)
    assert MANY_IMAGES == 2000


def test_no_iterations_are_no_training(run: Run, model: nn.Module, train: ImageSet) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    none = replace(FIT, iterations=0)
    for how in (tune, tune_low_data):
        assert run(how, train, none) == Tuned(none)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_single_image_of_a_class_leaves_the_member_as_it_is(run: Run, model: nn.Module, train: ImageSet) -> None:
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tuned = run(tune_low_data, train.subset([0, 1, 2, len(train) - 1]))
    assert tuned.iterations == 0
    assert "a class has a single image" in tuned.warnings[0]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_what_images_left_out_decided_is_told(run: Run, train: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    top1 = {0.0: 90.0, 1.0: 80.0}
    monkeypatch.setattr(
        "mvp_edge.prune.fit.tune_interpolated", lambda *_, **__: Interpolation(0.0, 16, 3, dict(top1), top1)
    )
    (warning,) = run(tune_low_data, train).warnings
    assert "top-1 90.0 % without, 80.0 % with it" in warning
    assert "--schedule fixed" in warning
    monkeypatch.setattr(
        "mvp_edge.prune.fit.tune_interpolated", lambda *_, **__: Interpolation(0.5, 16, 3, dict(top1), top1)
    )
    assert run(tune_low_data, train).warnings == ()
