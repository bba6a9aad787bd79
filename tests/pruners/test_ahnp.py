from dataclasses import replace
from typing import Any, cast

import pytest
import timm
import torch
from torch import nn

from mvp_edge.config import FitConfig, ScoreSchedule
from mvp_edge.core.errors import ConfigError
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import new_model
from mvp_edge.models.groups import Consumer, Group, GroupTable, SlicedDimension, find_groups
from mvp_edge.models.plan import full_plan, make_plan
from mvp_edge.models.slicing import slice_model
from mvp_edge.pruners import automatic_prune, target_counts
from mvp_edge.pruners.ahnp import UnitScores
from mvp_edge.training.loop import BatchSource, fit
from mvp_edge.training.optimizers import make_optimizer
from tests.bases import small_base

BASE = small_base("test_resnet", (8, 8))
CPU = torch.device("cpu")


class Net(nn.Module):
    """A grouped convolution whose input is one group, two channels a unit, then a linear layer, which reads another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 6, 3, padding=1, groups=2)
        self.hidden = nn.Linear(6, 12)
        self.head = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(self.first(x).relu()).relu().mean((2, 3))
        return self.head(self.hidden(x).relu())


def units(n: int, channels: int = 1) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(range(i * channels, (i + 1) * channels)) for i in range(n))


NODES = Group(
    "hidden", 12, 1,
    (
        SlicedDimension("hidden.weight", 0, units(12), 12), SlicedDimension("hidden.bias", 0, units(12), 12),
        SlicedDimension("head.weight", 1, units(12), 12),
    ),
    (Consumer("head", units(12)),), (),
)  # fmt: skip
PAIRS = Group("first", 4, 2, (), (Consumer("grouped", units(4, 2)),), ())


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def source(config: FitConfig) -> BatchSource:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(40) % 2
    images[labels == 1, 0] //= 4
    return BatchSource(ImageSet(images, labels, ("a", "b")), BASE, config, CPU, 0)


def training(iterations: int = 12) -> FitConfig:
    return FitConfig(iterations=iterations, batch_size=8, lr=1e-3, optimizer="adamw")


def idle(scores: UnitScores) -> torch.optim.Optimizer:
    return torch.optim.AdamW(list(scores.values.values()), lr=0.1)


@pytest.mark.parametrize("group", [NODES, PAIRS], ids=lambda g: g.name)
def test_folding_leaves_the_outputs(group: Group) -> None:
    """Also into a grouped convolution, each of whose rows reads a part of the channels, and with negative scores."""
    model, table, x = net(), GroupTable((group,)), torch.randn(4, 3, 8, 8)
    plain = model(x)
    scores = UnitScores(model, table, full_plan(table.widths), [group.name], 0.0)
    assert torch.equal(model(x), plain)
    with torch.no_grad():
        scores.values[group.name].copy_(torch.linspace(-0.5, 2, group.width))
    scored, optimizer = model(x), idle(scores)
    assert not torch.allclose(scored, plain, atol=1e-3)
    scores.fold(group.name, optimizer)
    assert torch.allclose(model(x), scored, atol=1e-6)
    assert not scores.values and not optimizer.param_groups[0]["params"]
    assert all(not m._forward_pre_hooks for m in model.modules())


def test_the_gradient_is_that_of_the_loss_with_its_penalty() -> None:
    model, table, x = net(), GroupTable((NODES,)), torch.randn(4, 3, 8, 8)
    scores = UnitScores(model, table, full_plan(table.widths), ["hidden"], 0.3)
    values = scores.values["hidden"]
    with torch.no_grad():
        values[0] = -0.5
    gate = values.detach().clone().requires_grad_()
    model(x).square().mean().backward()
    scores.close()
    hidden = model.hidden(model.grouped(model.first(x).relu()).relu().mean((2, 3))).relu()
    (model.head(hidden * gate).square().mean() + 0.3 * gate.abs().sum()).backward()
    assert values.grad is not None and gate.grad is not None
    assert torch.allclose(values.grad, gate.grad, atol=1e-6)


def test_scores_and_their_momentum_are_sliced_along() -> None:
    model, table = net(), GroupTable((NODES,))
    plan = full_plan(table.widths)
    scores = UnitScores(model, table, plan, ["hidden"], 0.1)
    optimizer = idle(scores)
    model(torch.randn(4, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    old = scores.values["hidden"]
    before, momentum = old.detach().clone(), optimizer.state[old]["exp_avg"].clone()
    smaller = make_plan(table.widths, {"hidden": [1, 4, 11]})
    slice_model(model, table, smaller, current=plan)
    x = torch.randn(4, 3, 8, 8)
    scores.select({"hidden": torch.tensor([1, 4, 11]).numpy()}, smaller, optimizer)
    new = scores.values["hidden"]
    assert torch.equal(new, before[[1, 4, 11]])
    assert torch.equal(optimizer.state[new]["exp_avg"], momentum[[1, 4, 11]]) and old not in optimizer.state
    model(x).square().mean().backward()
    assert new.grad is not None and new.grad.shape == (3,)
    optimizer.step()


def test_what_falls_below_the_threshold_goes_at_once_and_never_beyond_the_target() -> None:
    """A penalty that no loss can resist: every score falls by its rate a step, and the target is reached in a few."""
    config = training(20)
    model, table, widths = net(), GroupTable((NODES,)), []
    model.head.register_forward_pre_hook(lambda layer, _: widths.append(layer.get_parameter("weight").shape[1]))
    schedule = ScoreSchedule(sparsity=1e3, threshold=0.8, share=0.9)
    plan = automatic_prune(model, table, source(config), {"hidden": 5}, schedule, config)
    assert plan.counts == {"hidden": 5}
    assert widths == [12] * 5 + [5] * 15  # 1 - 5 * 0.05 < 0.8; later steps are shorter with the cosine
    assert len(model._forward_pre_hooks) == 0 and model.hidden.out_features == 5
    kept = net().head.weight[:, list(plan["hidden"])].abs().mean()
    assert model.head.weight.abs().mean() < 0.9 * kept  # scores below 0.8 are in the weights now


def test_units_fall_one_by_one_and_the_rest_when_time_is_up() -> None:
    config = training(20)
    model, table, widths = net(), GroupTable((NODES,)), []
    model.head.register_forward_pre_hook(lambda layer, _: widths.append(layer.get_parameter("weight").shape[1]))
    schedule = ScoreSchedule(sparsity=0.0, threshold=1e-6, share=0.5)
    assert automatic_prune(model, table, source(config), {"hidden": 5}, schedule, config).counts == {"hidden": 5}
    assert widths == [12] * 10 + [5] * 10


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_short_run_reaches_its_target_after_the_last_step(iterations: int) -> None:
    config = training(iterations)
    model = net()
    plan = automatic_prune(model, GroupTable((NODES,)), source(config), {"hidden": 5}, ScoreSchedule(), config)
    assert plan.counts == {"hidden": 5} and model.head.in_features == 5


def test_a_unit_that_matters_stays() -> None:
    """Every other node is disconnected from the classes: nothing but the penalty acts on its score."""
    model, learning, config = net(), replace(training(40), lr=0.02), replace(training(40), lr=1e-7)
    with torch.no_grad():
        model.hidden.bias.fill_(1)
    fit(model, source(learning), learning, optimizer=make_optimizer(model, learning))
    with torch.no_grad():
        model.head.weight[:, ::2] = 0
    schedule = ScoreSchedule(sparsity=1e-4, threshold=0.5, share=0.9)
    plan = automatic_prune(model, GroupTable((NODES,)), source(config), {"hidden": 6}, schedule, config)
    assert plan["hidden"] == tuple(range(1, 12, 2))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_convolutional_network_is_pruned_to_its_targets(optimizer: Any) -> None:
    torch.manual_seed(0)
    model = new_model("test_resnet", 2)
    table = find_groups(model, (32, 32))
    config = replace(training(8), optimizer=optimizer)
    batches = source(config)
    batches.images = batches.images.repeat(1, 1, 4, 4)
    counts = target_counts(table, 0.3, 4)
    start = make_plan(table.widths, {g.name: range(max(counts[g.name], g.width // 2)) for g in table.groups})
    slice_model(model, table, start)
    schedule = ScoreSchedule(sparsity=1, threshold=0.9, share=0.6)
    plan = automatic_prune(model, table, batches, counts, schedule, config, start=start)
    assert plan.counts == counts
    for group in plan.groups:
        assert set(group.kept) <= set(start[group.name])
    assert model.eval()(torch.randn(2, 3, 32, 32)).isfinite().all()
    assert all(not m._forward_pre_hooks for m in model.modules())


def test_no_block_of_a_vision_transformer_loses_all_its_heads() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", img_size=8, patch_size=4, num_classes=2)
    table, config = find_groups(model, (8, 8)), training(8)
    schedule = ScoreSchedule(sparsity=1e3, threshold=0.9, share=0.9)  # every score falls
    plan = automatic_prune(model, table, source(config), target_counts(table, 0.1, 8), schedule, config)
    channels = {name: g.unit_channels for name, g in zip(plan.counts, table.groups, strict=True)}
    assert {channels[n]: c for n, c in plan.counts.items()} == {32: 1, 1: 16}
    for block in cast(Any, model).blocks:
        assert block.attn.num_heads == 1 and block.attn.proj.in_features == 32 and block.mlp.fc2.in_features == 16
    assert model.eval()(torch.randn(2, 3, 8, 8)).isfinite().all()


def test_the_same_seed_gives_the_same_plan() -> None:
    plans = []
    for _ in range(2):
        config = training()
        plans.append(
            automatic_prune(net(), GroupTable((NODES,)), source(config), {"hidden": 5}, ScoreSchedule(), config)
        )
    assert plans[0] == plans[1]


@pytest.mark.parametrize("wrong", [{"sparsity": -1}, {"threshold": 0}, {"threshold": 1}, {"share": 0}, {"lr": 2}])
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ScoreSchedule(**wrong)


@pytest.mark.usefixtures("without_doubles")
def test_scores_are_read_from_devices_of_single_precision() -> None:
    scores = UnitScores(net(), GroupTable((NODES,)), full_plan({"hidden": 12}), ["hidden"], 0.1)
    assert scores.magnitudes("hidden").tolist() == [1.0] * 12
