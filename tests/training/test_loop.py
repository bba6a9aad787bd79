import copy
import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch.nn import functional as F

from mvp_edge.config import FitConfig
from mvp_edge.config.choices import Norms
from mvp_edge.core.errors import ConfigError
from mvp_edge.data import ImageSet, forward_batch, normalise
from mvp_edge.models.architectures import head_of, new_model, set_head
from mvp_edge.models.heads import random_head, ridge_head, shared_rows
from mvp_edge.training.loop import (
    Batch,
    BatchSource,
    accuracy,
    fit,
    learning_rate,
    loss_of,
    predict,
    reestimate_norms,
)
from mvp_edge.training.optimizers import make_optimizer
from tests.bases import small_base

CPU = torch.device("cpu")
BASE = small_base("test_resnet")


def two_colours(n: int = 40) -> ImageSet:
    images = torch.randint(0, 128, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(n) % 2
    images[labels == 1, 0] += 127
    return ImageSet(images, labels, ("blue", "red"))


def train(seed: int, iterations: int = 8) -> tuple[torch.nn.Module, list[float]]:
    torch.manual_seed(0)
    model, losses = new_model("test_resnet", 2), []
    config = FitConfig(iterations=iterations, batch_size=16, lr=0.02)
    source = BatchSource(two_colours(), BASE, config, CPU, seed)
    fit(model, source, config, optimizer=make_optimizer(model, config), after_step=lambda _, v: losses.append(float(v)))
    return model, losses


def test_training_learns_and_repeats_exactly() -> None:
    model, losses = train(0, 30)
    data = two_colours()
    assert losses[-1] < 0.5 * losses[0]
    assert accuracy(predict(model, data.images, BASE, CPU), data).top1 >= 95
    assert train(1)[1] == train(1)[1] != train(2)[1]


def test_dropout_repeats_too_and_leaves_other_draws_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = copy.deepcopy(network)
        config = FitConfig(iterations=4, batch_size=16, lr=0.02)
        source = BatchSource(two_colours(), BASE, config, CPU, 0)
        source.seed = seed  # the batches are those of another
        fit(model, source, config, optimizer=make_optimizer(model, config))
        return torch.cat([p.flatten() for p in model.parameters()])

    network = new_model("test_resnet", 2)
    cast(Any, network).drop_rate = 0.5
    torch.manual_seed(0)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    first, then = weights(0), torch.rand(3)
    assert torch.equal(then, drawn) and torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


@pytest.mark.parametrize("norms", ["batch", "fixed"])
def test_fixed_norms_keep_their_statistics_and_still_train(norms: Norms) -> None:
    model = new_model("test_resnet", 2)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config = FitConfig(iterations=3, batch_size=16, lr=0.02, norms=norms)
    fit(model, BatchSource(two_colours(), BASE, config, CPU, 0), config, optimizer=make_optimizer(model, config))
    after = model.state_dict()
    statistics = [k for k in after if k.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(before[k], after[k]) for k in statistics) == (norms == "fixed")
    assert any(not torch.equal(before[k], after[k]) for k in after if k.endswith("bn1.weight"))


@pytest.mark.parametrize("iterations", [1, 30])
def test_training_that_diverges_is_an_error(iterations: int) -> None:
    model = new_model("test_resnet", 2)
    config = FitConfig(iterations=iterations, batch_size=16)
    source = BatchSource(two_colours(), BASE, config, CPU, 0)
    passed: list[int] = []

    def overflow(step: int) -> None:
        if step == min(7, iterations - 1):
            torch.nn.init.constant_(head_of(model).weight, math.inf)

    with pytest.raises(ConfigError, match="diverged.*--lr"):
        fit(
            model, source, config, optimizer=make_optimizer(model, config), before_step=overflow,
            after_step=lambda step, _: passed.append(step),
        )  # fmt: skip
    assert len(passed) < iterations


def test_a_skipped_source_goes_on_where_it_was() -> None:
    config = FitConfig(iterations=6, batch_size=16, cutout=8)
    whole, late = (BatchSource(two_colours(), BASE, config, CPU, 5) for _ in range(2))
    for _ in range(4):
        whole.next()
    late.skip(4)
    a, b = whole.next(), late.next()
    assert torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    config = FitConfig(iterations=100, lr=0.1, warmup=0.1)
    rates = [learning_rate(s, config) for s in range(100)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.05, abs=1e-3) and rates[-1] < 1e-4
    assert learning_rate(0, FitConfig(lr=0.3)) == pytest.approx(0.3)


def test_distillation_mixes_both_losses() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    teacher = torch.randn(6, 3)
    batch = Batch(torch.empty(0), labels, teacher)
    soft = F.kl_div((logits / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="batchmean") * 4
    mixed = 0.3 * F.cross_entropy(logits, labels) + 0.7 * soft
    assert torch.allclose(loss_of(logits, batch, FitConfig(distill=0.7)), mixed, atol=1e-6)
    assert torch.equal(loss_of(logits, batch, FitConfig()), F.cross_entropy(logits, labels))


def test_accuracy_by_hand() -> None:
    data = ImageSet(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), ("a", "b", "c"))
    score = accuracy(torch.eye(3)[[0, 1, 1, 2]], data)
    assert score.top1 == 50 and score.n == 4
    assert score.confusion == ((1, 1, 0), (0, 1, 1), (0, 0, 0))
    assert score.per_class == {"a": 50, "b": 50, "c": None}
    assert replace(score, top1=200 / 3).to_json() == {
        "top1": 66.67, "n": 4, "per_class": score.per_class, "confusion": [[1, 1, 0], [0, 1, 1], [0, 0, 0]],
    }  # fmt: skip


def test_the_closed_form_head_separates_what_the_features_do() -> None:
    model, data = new_model("test_resnet", 9), two_colours()
    set_head(model, ridge_head(model, data, BASE, CPU))
    assert accuracy(predict(model, data.images, BASE, CPU), data).top1 == 100


def test_the_statistics_of_norms_are_those_of_all_classes() -> None:
    """Also where the images are sorted by class, come in several parts, and the last part is a small one."""
    images = torch.zeros(501, 3, 32, 32, dtype=torch.uint8)
    images[300:, 0] = 255  # two classes that differ in red
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3), torch.nn.Flatten())
    reestimate_norms(model, images, BASE, CPU)
    red = normalise(images, BASE.mean, BASE.std)[:, 0]
    norm = model[0]
    assert isinstance(norm, torch.nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    assert norm.running_mean[0] == pytest.approx(float(red.mean()), abs=0.02)
    assert norm.running_var[0] == pytest.approx(float(red.var()), rel=0.02)
    assert not model.training


def test_large_images_take_turns() -> None:
    def at_once(side: int) -> int:
        return forward_batch(torch.empty(1, 3, side, side, dtype=torch.uint8))

    assert [at_once(side) for side in (32, 224, 5000)] == [250, 41, 1]


def test_rows_of_a_head_follow_the_names() -> None:
    head = random_head(4, 3, torch.Generator().manual_seed(0))
    rows = shared_rows(["C", "a b"], ["a_b", "b", "c"], head)
    assert rows is not None
    assert torch.equal(rows.weight, head.weight[[2, 0]])
    assert shared_rows(["x"], ["a"], head) is None


@pytest.mark.parametrize("wrong", [{"iterations": -1}, {"batch_size": 1}, {"lr": 0}, {"lr": math.inf}, {"distill": 2}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FitConfig(**wrong)
