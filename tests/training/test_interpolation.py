from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.config import FitConfig
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import new_model
from mvp_edge.training.interpolation import (
    WEIGHTS,
    balanced_top1,
    best_temperature,
    calibrated_loss,
    choose,
    class_weights,
    fold_count,
    folds,
    grouped_folds,
    interpolate,
    mean,
    rest_of,
    steps,
    tune_interpolated,
)
from mvp_edge.training.loop import BatchSource, fit, predict
from mvp_edge.training.optimizers import make_optimizer
from tests.bases import small_base

CPU = torch.device("cpu")
BASE = small_base("test_resnet")


def colours(n: int, channel: int = 0) -> ImageSet:
    images = torch.randint(0, 128, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    labels = torch.arange(n) % 2
    images[labels == 1, channel] += 127
    return ImageSet(images, labels, ("dark", "bright"))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network that tells bright red from dark."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_model("test_resnet", 2)
    config = FitConfig(iterations=30, batch_size=16, lr=0.02)
    fit(model, BatchSource(colours(40), BASE, config, CPU, 0), config, optimizer=make_optimizer(model, config))
    return model


@pytest.fixture
def model(trained: nn.Module) -> nn.Module:
    copied = new_model("test_resnet", 2)
    copied.load_state_dict(trained.state_dict())
    return copied.eval()


def pictures(labels: torch.Tensor, groups: torch.Tensor | None = None) -> ImageSet:
    names = tuple(map(str, range(int(labels.max()) + 1)))
    return ImageSet(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), labels, names, groups=groups)


@pytest.mark.parametrize(("counts", "parts"), [((9, 12), 3), ((2, 50), 2), ((4, 3, 5), 3)])
def test_every_image_is_left_out_once_and_every_part_has_every_class(counts: tuple[int, ...], parts: int) -> None:
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    assert fold_count(pictures(labels)) == parts
    found = folds(labels, np.random.default_rng(0), parts)
    assert len(found) == parts
    assert torch.cat(found).sort().values.tolist() == list(range(len(labels)))
    for k, n in enumerate(counts):
        shares = [int((labels[part] == k).sum()) for part in found]
        assert n // parts <= min(shares) <= max(shares) <= -(-n // parts)


def test_folds_are_drawn() -> None:
    labels = torch.arange(40) % 2
    one, same, other = (folds(labels, np.random.default_rng(seed), 3)[0].tolist() for seed in (0, 0, 1))
    assert one == same != other


def test_a_single_image_is_not_left_out_and_every_class_is_outside_of_every_fold() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 2, 2, 2, 2])
    for seed in range(20):
        found = folds(labels, np.random.default_rng(seed), 5)
        assert torch.cat(found).sort().values.tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9]
        assert all(set(labels[rest_of(part, len(labels))].tolist()) == {0, 1, 2} for part in found)
        assert set(labels[found[0]].tolist()) == {0, 2}
    with pytest.raises(ValueError, match="at least 2"):
        folds(labels, np.random.default_rng(0), fold_count(pictures(labels)))
    with pytest.raises(ValueError, match="at least 2"):  # copies of one image are as good as a single one
        grouped_folds(copied := pictures(labels, labels), np.random.default_rng(0), fold_count(copied))


@pytest.mark.parametrize("across", [False, True])
def test_groups_are_in_one_fold(across: bool) -> None:
    """Of unequal groups, also those that hold several classes; without groups folds are as `folds` makes them."""
    labels, groups = torch.arange(120) % 2, torch.arange(120).double().sqrt().long()
    groups = groups if across else 2 * groups + labels
    data = pictures(labels, groups)
    for seed in range(5):
        found = grouped_folds(data, np.random.default_rng(seed), 5)
        assert torch.cat(found).sort().values.tolist() == list(range(120))
        for part in found:
            rest = rest_of(part, 120)
            assert not set(groups[part].tolist()) & set(groups[rest].tolist())
            assert 18 <= len(part) <= 30 and set(labels[rest].tolist()) == {0, 1}
    alone, plain = pictures(labels, torch.arange(120)), pictures(labels)
    expected = folds(labels, np.random.default_rng(3), 5)
    for each in (alone, plain):
        assert all(map(torch.equal, grouped_folds(each, np.random.default_rng(3), 5), expected))


def test_a_group_that_is_all_of_a_class_is_in_no_fold() -> None:
    labels, groups = torch.tensor([0] * 9 + [1] * 3), torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 9, 9, 9, 9])
    found = grouped_folds(pictures(labels, groups), np.random.default_rng(0), 3)
    assert torch.cat(found).sort().values.tolist() == list(range(8))
    assert fold_count(pictures(labels, groups)) == 1


def test_mixed_weights_lie_on_the_line() -> None:
    before = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}
    after = {"w": torch.tensor([1.0, -4.0]), "n": torch.tensor(9)}
    assert interpolate(before, after, 0.25)["w"].tolist() == [0.25, 2.0]
    assert interpolate(before, after, 0.25)["n"] == 3
    for weight, end in ((0, before), (1, after)):
        assert all(torch.equal(v, end[k]) for k, v in interpolate(before, after, weight).items())
    assert mean([before, after, after])["w"].tolist() == pytest.approx([2 / 3, -4 / 3])
    assert mean([before, after, after])["n"] == 3


def test_confidence_alone_does_not_change_the_loss() -> None:
    labels = torch.arange(50) % 4
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) + 2 * F.one_hot(labels, 4)
    ones = torch.ones(len(labels))
    losses = calibrated_loss(logits, labels, ones)
    torch.testing.assert_close(losses, calibrated_loss(4 * logits, labels, ones))
    assert losses.mean() <= F.cross_entropy(logits, labels)
    assert calibrated_loss(-logits, labels, ones).mean() != losses.mean()


def losses(shift: float, spread: float) -> dict[float, Tensor]:
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0))
    noise = (noise - noise.mean()) / noise.std()
    return {0.0: torch.full((100,), 1.0), 0.5: 1 - shift + spread * noise, 1.0: torch.full((100,), 1.2)}


@pytest.mark.parametrize(
    ("shift", "spread", "weight"), [(0.1, 0.5, 0.5), (0.1, 2.0, 0.0), (0, 0, 0.0), (-0.1, 0.0, 0.0), (0.01, 0.0, 0.5)]
)
def test_a_gain_must_exceed_its_standard_error(shift: float, spread: float, weight: float) -> None:
    assert choose(losses(shift, spread)) == weight


CONFIG = FitConfig(iterations=10, batch_size=16, lr=0.01, crop=0)


def tuned(model: nn.Module, data: ImageSet, config: FitConfig = CONFIG, seed: int = 0) -> tuple[float, Tensor]:
    found, _ = tune_interpolated(model, data, BASE, config, device=CPU, seed=seed)
    return found.weight, torch.cat([p.detach().flatten() for p in model.state_dict().values()])


def test_a_network_that_fine_tuning_ruins_stays_as_it_is(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def ruin(target: nn.Module, *_: object, **__: object) -> None:
        for p in target.parameters():
            p.data = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))

    monkeypatch.setattr("mvp_edge.training.interpolation.fit", ruin)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    mix, _ = tune_interpolated(model, colours(24), BASE, CONFIG, device=CPU, seed=0)
    assert mix.weight == 0
    assert mix.top1[0.0] == 100 > mix.top1[1.0]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_network_that_meets_other_images_learns_from_them(model: nn.Module) -> None:
    few, many = colours(24, channel=2), colours(60, channel=2)

    def right() -> float:
        return float((predict(model, many.images, BASE, CPU).argmax(1) == many.labels).float().mean())

    before = right()
    mix, _ = tune_interpolated(model, few, BASE, CONFIG, device=CPU, seed=0)
    assert mix.weight > 0
    assert before < 0.8 < right()
    assert (mix.images, mix.folds, tuple(mix.loss)) == (24, 3, WEIGHTS)
    assert mix.top1[mix.weight] > mix.top1[0.0]
    told = mix.to_json()
    assert told["held_out"][0] == {"weight": 0.0, "top1": round(mix.top1[0.0], 2), "loss": round(mix.loss[0.0], 4)}
    assert not model.training


def test_the_same_seed_gives_the_same_network(model: nn.Module, trained: nn.Module) -> None:
    one = tuned(model, colours(24, channel=2))
    model.load_state_dict(trained.state_dict())
    again = tuned(model, colours(24, channel=2))
    assert one[0] == again[0]
    assert torch.equal(one[1], again[1])


def test_images_left_out_are_not_learned_from(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[bytes]] = []
    data = colours(12)

    def spy(target: nn.Module, source: BatchSource, config: FitConfig, **_: object) -> None:
        seen.append({i.numpy().tobytes() for i in source.images})

    tried: list[set[bytes]] = []
    asked: Callable[..., Tensor] = predict

    def watch(target: nn.Module, images: Tensor, *rest: object) -> Tensor:
        tried.append({i.numpy().tobytes() for i in images})
        return asked(target, images, *rest)

    monkeypatch.setattr("mvp_edge.training.interpolation.fit", spy)
    monkeypatch.setattr("mvp_edge.training.interpolation.predict", watch)
    tune_interpolated(model, data, BASE, CONFIG, device=CPU, seed=0)
    assert len(seen) == 3 == len(tried) / len(WEIGHTS)
    for number, learned in enumerate(seen):
        for held in tried[number * len(WEIGHTS) : (number + 1) * len(WEIGHTS)]:
            assert len(learned) + len(held) == 12
            assert not learned & held


def test_the_first_fold_has_a_network_that_has_not_seen_it(model: nn.Module) -> None:
    data = colours(24, channel=2)
    mix, fold = tune_interpolated(model, data, BASE, CONFIG, device=CPU, seed=0)
    assert sorted([*fold.left_out.tolist(), *fold.rest.tolist()]) == list(range(24)) and len(fold.left_out) == 8
    assert mix.weight > 0
    assert any((fold.state[name] != value).any() for name, value in model.state_dict().items())
    model.load_state_dict(fold.state)
    held_out = predict(model, data.images[fold.left_out], BASE, CPU).argmax(1) == data.labels[fold.left_out]
    assert float(held_out.float().mean()) > 0.8


def test_steps_counts_all_folds() -> None:
    assert steps(CONFIG, colours(24)) == 30
    assert steps(CONFIG, colours(4)) == 20


def test_the_rest_is_what_is_not_left_out() -> None:
    assert rest_of(torch.tensor([3, 0]), 5).tolist() == [1, 2, 4]


def test_every_class_counts_alike() -> None:
    labels = torch.tensor([0] * 200 + [1] * 5 + [3] * 5)
    weights = class_weights(labels)
    assert float(weights.mean()) == pytest.approx(1)
    assert [float(weights[labels == k].sum()) for k in (0, 1, 3)] == pytest.approx([70, 70, 70])
    assert class_weights(torch.arange(6) % 3).tolist() == [1] * 6


def test_balanced_accuracy() -> None:
    logits = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [1, 0]])
    assert balanced_top1(logits, torch.tensor([0, 0, 0, 0, 1])) == pytest.approx(50)


def test_the_temperature_makes_confidence_as_high_as_it_is_right() -> None:
    labels = torch.arange(4).repeat(50)
    right = torch.nn.functional.one_hot(labels, 4).float()
    right[::4] = right[::4].roll(1, 1)  # a quarter is wrong
    sure, unsure = (best_temperature(s * right, labels) for s in (20.0, 1.0))
    assert sure > 4 > 1 > unsure
    assert best_temperature(20 * torch.eye(2), torch.arange(2)) > 4  # two images that are right prove little
