import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import timm
import torch
from torch import nn

from mvp_edge.config import FitConfig, FitOverrides, Optimizer
from mvp_edge.core.errors import ConfigError
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import new_model
from mvp_edge.models.groups import Consumer, Group, GroupTable, SlicedDimension
from mvp_edge.models.plan import make_plan
from mvp_edge.models.slicing import slice_model
from mvp_edge.training.checkpoint import Checkpoint
from mvp_edge.training.loop import BatchSource, fit, learning_rate
from mvp_edge.training.optimizers import make_optimizer, resolve_fit
from mvp_edge.training.recipes import recipe
from tests.bases import small_base

OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
CPU = torch.device("cpu")
BASE = small_base("test_vit")


def vit(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model("test_vit", img_size=32, patch_size=8, num_classes=2)


def batches(config: FitConfig) -> BatchSource:
    images = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(32) % 2
    images[labels == 1, 0] //= 4
    return BatchSource(ImageSet(images, labels, ("a", "b")), BASE, config, CPU, 0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_two_colours(optimizer: Optimizer) -> None:
    config = FitConfig(iterations=40, batch_size=16, lr=0.02 if optimizer == "sgd" else 0.003, optimizer=optimizer)
    model, losses = vit(), []
    fit(
        model,
        batches(config),
        config,
        optimizer=make_optimizer(model, config),
        after_step=lambda _, v: losses.append(v),
    )
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_parameter_is_trained_once_and_only_weights_of_layers_decay(optimizer: Optimizer) -> None:
    model = vit()
    groups = make_optimizer(model, FitConfig(optimizer=optimizer)).param_groups
    names = {p: n for n, p in model.named_parameters()}
    told = [names[p] for g in groups for p in g["params"]]
    assert sorted(told) == sorted(names.values())
    decayed = {names[p] for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    assert {n.split(".")[-1] for n in decayed} == {"weight"}
    assert {"head.weight", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= decayed
    assert not {n for n in decayed if "norm" in n or n in ("pos_embed", "cls_token")}


def test_convolutions_decay_as_ever() -> None:
    model = new_model("test_resnet", 2)
    groups = make_optimizer(model, FitConfig()).param_groups
    assert list(groups[0]["params"]) == [p for p in model.parameters() if p.ndim > 1]
    assert groups[0]["weight_decay"] > 0 == groups[1]["weight_decay"]


def test_a_group_keeps_its_ratio_to_the_peak_rate() -> None:
    config = FitConfig(iterations=3, batch_size=8, lr=0.01, warmup=0.5, optimizer="adamw")
    model = vit()
    optimizer = make_optimizer(model, config)
    optimizer.param_groups[1]["scale"] = 100.0
    seen = []
    fit(
        model, batches(config), config, optimizer=optimizer,
        after_step=lambda *_: seen.append([g["lr"] for g in optimizer.param_groups]),
    )  # fmt: skip
    for step, rates in enumerate(seen):
        peak = learning_rate(step, config)
        assert rates == pytest.approx([peak, 100 * peak])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_checkpoint_restores_the_whole_state(optimizer: Optimizer, tmp_path: Path) -> None:
    config = FitConfig(iterations=6, batch_size=8, lr=0.01, optimizer=optimizer)
    through, checkpoint = vit().to(memory_format=torch.channels_last), Checkpoint(tmp_path / "state", {})
    state = make_optimizer(through, config)

    def save(step: int, _: torch.Tensor) -> None:
        if step == 2:
            checkpoint.save(through, state, 3)

    fit(through, batches(config), config, optimizer=state, after_step=save)
    resumed, source = vit(seed=1).to(memory_format=torch.channels_last), batches(config)
    again = make_optimizer(resumed, config)
    start = checkpoint.load(resumed, again)
    source.skip(start)
    fit(resumed, source, config, optimizer=again, start=start)
    for a, b in zip(through.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_state_is_sliced_with_the_weights(optimizer: Optimizer) -> None:
    config = FitConfig(iterations=3, batch_size=8, lr=0.01, optimizer=optimizer)
    model = vit()
    table = hidden_nodes(model, "blocks.0.mlp")
    plan = make_plan(table.widths, {g.name: range(0, g.width, 2) for g in table.groups})
    state = make_optimizer(model, config)
    fit(model, batches(config), config, optimizer=state)
    before = copy.deepcopy({n: state.state[p] for n, p in model.named_parameters()})
    slice_model(model, table, plan, optimizer=state)
    for name, parameter in model.named_parameters():
        assert state.state[parameter].keys() == before[name].keys() != set()
        for key, value in state.state[parameter].items():
            whole, by = before[name][key], 2 if ".0.mlp.fc" in name else 1
            if whole.ndim and name.endswith("0.mlp.fc2.weight"):
                assert torch.equal(value, whole[:, ::2])
            else:
                assert torch.equal(value, whole[::by] if whole.ndim and not name.endswith("fc2.bias") else whole)
    assert {id(p) for g in state.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    fit(model, batches(config), config, optimizer=state)


def hidden_nodes(model: nn.Module, mlp: str) -> GroupTable:
    layer: Any = model.get_submodule(f"{mlp}.fc1")
    index = tuple((i,) for i in range(layer.out_features))
    dimensions = (
        SlicedDimension(f"{mlp}.fc1.weight", 0, index, len(index)),
        SlicedDimension(f"{mlp}.fc1.bias", 0, index, len(index)),
        SlicedDimension(f"{mlp}.fc2.weight", 1, index, len(index)),
    )
    return GroupTable((Group(f"{mlp}.fc1", len(index), 1, dimensions, (Consumer(f"{mlp}.fc2", index),), ()),))


def test_the_kind_of_network_decides_and_the_user_overrides() -> None:
    conv, attention = new_model("test_resnet", 2), vit()
    assert resolve_fit(FitOverrides(), "prune", conv) == recipe("prune", "sgd")
    assert resolve_fit(FitOverrides(), "prune", attention) == recipe("prune", "adamw")
    found = resolve_fit(FitOverrides(lr=0.5, iterations=0), "prune", attention)
    assert found == replace(recipe("prune", "adamw"), lr=0.5, iterations=0)
    assert resolve_fit(FitOverrides(optimizer="adamw"), "pretrain", conv) == recipe("pretrain", "adamw")
    assert resolve_fit(FitConfig(lr=0.2), "prune", attention) == FitConfig(lr=0.2)


def test_recipes_are_those_of_the_paper() -> None:
    """Sections 3.1 and 5.1 for members and fine-tuning with AdamW."""
    assert recipe("prune", "adamw").lr == 2e-4 and recipe("specialist", "adamw").lr == 5e-5
    assert recipe("prune", "adamw").iterations == 100 and recipe("specialist", "adamw").iterations == 1000
    for optimizer in OPTIMIZERS:
        assert recipe("generalist", optimizer).optimizer == optimizer


def test_wishes_are_checked() -> None:
    with pytest.raises(ConfigError, match="distill is 2"):
        FitOverrides(distill=2)
    with pytest.raises(ConfigError, match="'adam'.*sgd, adamw"):
        FitOverrides(optimizer=cast(Any, "adam"))
