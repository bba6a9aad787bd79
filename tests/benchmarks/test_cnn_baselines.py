"""What defines each baseline holds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.baselines import simsiam
from benchmarks.baselines.masked import (
    Dlth,
    Masks,
    Mest,
    dense_copy,
    extrude,
    largest,
    magnitude_masks,
    mutate,
    phase,
    prunable,
    random_masks,
)  # fmt: skip
from benchmarks.baselines.reptile import MetaConfig, density_at, drawing, meta_step, meta_train
from benchmarks.baselines.simsiam import SimSiam, loss_of, pretrain, view
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.streams import torch_rng
from mvp_edge.training.checkpoint import Checkpoint
from mvp_edge.training.loop import accuracy, predict

FEW = FitConfig(iterations=6, batch_size=8, lr=0.02)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 4))


def test_masks_spare_the_head_and_keep_the_largest() -> None:
    model = net()
    masks = magnitude_masks(model, "3", 0.25)
    assert list(masks.keep) == ["0.weight"]
    weight = model.get_parameter("0.weight").detach().abs()
    kept = masks.keep["0.weight"]
    assert int(kept.sum()) == round(0.25 * weight.numel())
    assert weight[kept].min() >= weight[~kept].max()
    assert int(largest(torch.zeros(7), 0.5).sum()) == 4  # ties do not add any


def test_a_mutation_keeps_the_density_and_drops_the_smallest() -> None:
    model = net()
    masks = random_masks(model, "", 0.3, torch_rng(0, "start"))
    masks.apply()
    before = {n: k.clone() for n, k in masks.keep.items()}
    counts = {n: int(k.sum()) for n, k in before.items()}
    smallest = {n: w.detach().abs()[before[n]].min() for n, w, _ in masks.weights()}
    mutate(masks, 0.3, 0.2, torch_rng(0, "grow"))
    assert {n: int(k.sum()) for n, k in masks.keep.items()} == counts
    assert masks.density == pytest.approx(0.3, abs=0.01)
    for name, weight, alive in masks.weights():
        born = alive & ~before[name]
        assert born.any()
        assert torch.count_nonzero(weight[born]) == 0  # what is grown starts at zero
        assert weight.detach().abs()[alive & (weight != 0)].min() > smallest[name]
        assert torch.count_nonzero(weight[~alive]) == 0


@pytest.mark.parametrize("start", ["magnitude", "random"])
def test_mest_ends_as_sparse_as_it_began(setting: Setting, start: str) -> None:
    model = Mest(keep=0.2, start=start, every=1)(setting, FEW)
    for name, weight in prunable(model, setting.prunable.head).items():
        assert torch.count_nonzero(weight) <= round(0.2 * weight.numel()), name
    assert [phase(s, 160) for s in (0, 89, 90, 119, 120, 159)] == [0, 0, 1, 1, 2, 2]


def test_dlths_penalty_drives_the_dropped_weights_to_zero_and_leaves_the_others(setting: Setting) -> None:
    model = dense_copy(setting)
    masks = random_masks(model, setting.prunable.head, 0.2, torch_rng(0, "dlth"))
    start = {n: w.detach().clone() for n, w, _ in masks.weights()}
    fast = replace(FEW, iterations=20, weight_decay=0.0)
    extrude(setting, model, masks, fast, decay=10.0)
    for name, weight, keep in masks.weights():
        assert weight.detach()[~keep].norm() < 0.2 * start[name][~keep].norm(), name
        assert weight.detach()[keep].norm() > 0.5 * start[name][keep].norm(), name
    assert all(not w._backward_hooks for _, w, _ in masks.weights())


def test_what_dlth_drops_is_zero_in_the_end(setting: Setting) -> None:
    model = Dlth(keep=0.2)(setting, FEW)
    for weight in prunable(model, setting.prunable.head).values():
        assert torch.count_nonzero(weight) <= round(0.2 * weight.numel())


def test_reptiles_meta_step_is_the_interpolation_it_claims() -> None:
    theta = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    adapted = [{"w": torch.tensor([3.0, 2.0]), "n": torch.tensor(9)}, {"w": torch.tensor([5.0, 0.0]), "n": theta["n"]}]
    moved = meta_step(theta, adapted, 0.5)
    assert torch.equal(moved["w"], torch.tensor([2.5, 1.5]))
    assert torch.equal(moved["n"], theta["n"])
    assert torch.equal(meta_step(theta, adapted, 0.0)["w"], theta["w"])
    assert torch.equal(meta_step(theta, adapted, 1.0)["w"], torch.tensor([4.0, 1.0]))


def test_hard_thresholding_alternates_and_ends_at_the_target() -> None:
    config = MetaConfig(iterations=40, interval=10, first_keep=0.4, keep=0.1, sparse=0.5)
    found = [density_at(i, config) for i in range(40)]
    assert found[:10] == [0.4] * 5 + [None] * 5
    assert [d for d in found[::10] if d] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert found[30:] == pytest.approx([0.1] * 10)  # nothing dense after the last threshold


def test_the_meta_trained_network_is_sparse_and_has_learnt_something(setting: Setting) -> None:
    config = MetaConfig(iterations=3, interval=2, tasks=1, inner=FEW, keep=0.3)
    model = dense_copy(setting)
    first = next(iter(prunable(model, setting.prunable.head)))
    before = model.get_parameter(first).detach().clone()
    masks = meta_train(model, drawing([setting], config, 0), config, setting.device, 0)
    assert masks.density == pytest.approx(0.3, abs=0.01)
    assert all(torch.count_nonzero(w[~k]) == 0 for _, w, k in masks.weights())
    assert not torch.equal(model.get_parameter(first), before)
    assert isinstance(masks, Masks)


def test_views_differ_and_two_equal_predictions_have_the_least_loss(setting: Setting) -> None:
    images = setting.train.images[:6]
    first, second = (view(images, torch_rng(0, n)) for n in ("a", "b"))
    assert first.shape == images.shape
    assert first.dtype == torch.uint8
    assert not torch.equal(first, second)
    assert torch.equal(first, view(images, torch_rng(0, "a")))
    z, p = torch.randn(4, 8), torch.randn(4, 8)
    assert float(loss_of((z, z), (z, z))) == pytest.approx(-1.0)
    assert float(loss_of((z, p), (-p, -z))) == pytest.approx(1.0)


def test_no_gradient_flows_into_the_projections(setting: Setting) -> None:
    model = SimSiam(dense_copy(setting), 16, 4)
    z1, p1 = model(torch.randn(4, 3, 32, 32))
    z2, p2 = z1.clone().detach().requires_grad_(), p1.detach()
    loss_of((z1, p1), (z2, p2)).backward()
    assert z2.grad is None
    assert model.predictor[0].weight.grad is not None


def test_pretraining_begins_with_small_views(setting: Setting, tmp_path: Path) -> None:
    model = SimSiam(dense_copy(setting), 16, 4)
    sizes = []
    model.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape[2:])))
    config, checkpoint = FitConfig(iterations=3, batch_size=8, lr=0.01), Checkpoint(tmp_path / "state", {})
    base, cpu = setting.prunable.base, setting.device
    pretrain(model, setting.train, base, config, checkpoint, 0, cpu, small_size=8, small_steps=2)
    assert sizes == [(8, 8)] * 4 + [(16, 16)] * 2


def test_pretraining_that_was_stopped_goes_on_to_the_same_weights(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simsiam, "SAVE_EVERY", 1)

    def trained(name: str) -> dict[str, torch.Tensor]:
        model, config = _simsiam(setting), FitConfig(iterations=4, batch_size=8, lr=0.01)
        checkpoint = Checkpoint(tmp_path / name, {})
        pretrain(model, setting.train, setting.prunable.base, config, checkpoint, 0, setting.device)
        return model.state_dict()

    whole, steps = trained("whole"), []

    def stop(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        steps.append(1)
        if len(steps) > 4:  # two views a step
            raise KeyboardInterrupt
        return view(images, generator)

    with monkeypatch.context() as patch:
        patch.setattr(simsiam, "view", stop)
        with pytest.raises(KeyboardInterrupt):
            trained("parts")
    parts = trained("parts")
    assert all(torch.allclose(whole[k], parts[k], atol=1e-6) for k in whole)


def _simsiam(setting: Setting) -> SimSiam:
    torch.manual_seed(0)
    return SimSiam(dense_copy(setting), 16, 4)


def test_masked_networks_still_work(setting: Setting) -> None:
    model = Mest(keep=0.5)(setting, replace(FEW, iterations=20))
    top1 = accuracy(predict(model, setting.train.images, setting.prunable.base, setting.device), setting.train).top1
    assert top1 > 40  # of five colours
