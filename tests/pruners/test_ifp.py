from typing import Any

import numpy as np
import pytest
import torch

from mvp_edge.config import FitConfig, PruneSchedule
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import new_model
from mvp_edge.models.groups import find_groups
from mvp_edge.models.plan import full_plan
from mvp_edge.pruners import base_importance, iterative_prune, random_plan, target_counts, top_plan
from mvp_edge.pruners.ifp import ImportanceMeter
from mvp_edge.training.loop import BatchSource
from tests.bases import small_base

BASE = small_base("test_resnet")


def setting(seed: int = 0, iterations: int = 12) -> tuple:
    torch.manual_seed(seed)
    model = new_model("test_resnet", 2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(40) % 2
    images[labels == 1, 0] //= 4
    data = ImageSet(images, labels, ("a", "b"))
    config = FitConfig(iterations=iterations, batch_size=8, lr=0.01)
    table = find_groups(model, (32, 32))
    return model, table, BatchSource(data, BASE, config, torch.device("cpu"), seed), config


@pytest.mark.parametrize("importance", ["activation", "taylor", "random"])
def test_targets_are_reached_by_slicing(importance: Any) -> None:
    model, table, source, config = setting()
    schedule = PruneSchedule(keep=0.3, channel_multiple=4, every=1, drop=0.3, importance=importance)
    plan = iterative_prune(model, table, source, schedule, config, rng=rng(0, "prune"))
    assert plan.counts == target_counts(table, 0.3, 4)
    for group in table.groups:
        assert model.get_parameter(group.dimensions[0].tensor).shape[group.dimensions[0].dim] == plan.counts[group.name]
    assert all(len(m._forward_pre_hooks) == 0 for m in model.modules())


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_short_run_reaches_its_target_after_the_last_step(iterations: int) -> None:
    model, table, source, config = setting(iterations=iterations)
    plan = iterative_prune(
        model, table, source, PruneSchedule(keep=0.3, channel_multiple=4), config, rng=rng(0, "prune")
    )
    assert plan.counts == target_counts(table, 0.3, 4)
    assert model.eval()(torch.randn(2, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("every", [1, 3])
def test_units_go_for_the_first_time_after_so_many_steps(every: int) -> None:
    model, table, source, config = setting()
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda layer, _: sizes.append(sum(p.numel() for p in layer.parameters())))
    iterative_prune(model, table, source, PruneSchedule(keep=0.3, every=every), config, rng=rng(0, "prune"))
    assert len(set(sizes[:every])) == 1 and sizes[every] < sizes[0]


def test_fused_steps_are_those_of_weights_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def pruned(**options: object) -> list[torch.Tensor]:
        model, table, source, config = setting()
        model.to(memory_format=torch.channels_last)
        monkeypatch.setattr(torch.optim, "SGD", lambda *args, **given: sgd(*args, **given | options))
        iterative_prune(model, table, source, PruneSchedule(keep=0.3, every=2), config, rng=rng(0, "prune"))
        return list(model.parameters())

    sgd = torch.optim.SGD
    for one, other in zip(pruned(), pruned(fused=False), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_the_same_seed_gives_the_same_plan() -> None:
    plans = []
    for _ in range(2):
        model, table, source, config = setting()
        schedule = PruneSchedule(keep=0.3, channel_multiple=1, every=2)
        plans.append(iterative_prune(model, table, source, schedule, config, rng=rng(0, "prune")))
    assert plans[0] == plans[1]


def test_the_meter_measures_mean_absolute_activation() -> None:
    model, table, _, _ = setting()
    group = next(g for g in table.groups if len(g.consumers) == 1)
    seen = []
    layer = model.get_submodule(group.consumers[0].module)
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    meter = ImportanceMeter(model, table, "activation")
    model.train()(torch.randn(4, 3, 32, 32))
    mean = seen[0].abs().mean((0, 2, 3)).double().numpy()
    meter.close()
    assert np.allclose(meter.scores(full_plan(table.widths))[group.name], mean / mean.mean(), rtol=1e-5)


def test_taylor_is_the_squared_gradient_of_a_gate() -> None:
    model, table, _, _ = setting()
    group = next(g for g in table.groups if len(g.consumers) == 1)
    layer = model.get_submodule(group.consumers[0].module)
    gate = torch.ones(group.width, requires_grad=True)
    handle = layer.register_forward_pre_hook(lambda _, args: args[0] * gate.view(-1, 1, 1))
    images = torch.randn(4, 3, 32, 32)
    model.train()(images).square().mean().backward()
    handle.remove()
    meter = ImportanceMeter(model, table, "taylor")
    model.train()(images).square().mean().backward()
    meter.close()
    assert gate.grad is not None
    expected = gate.grad.double().square().numpy()
    assert np.allclose(meter.scores(full_plan(table.widths))[group.name], expected / expected.mean(), rtol=1e-3)


def test_plans_made_in_one_go() -> None:
    model, table, _, _ = setting()
    counts = target_counts(table, 0.25, 4)
    best = top_plan(table, base_importance(model, table), counts)
    drawn = random_plan(table, counts, np.random.default_rng(0))
    assert best.counts == drawn.counts == counts
    assert best != drawn
    assert random_plan(table, counts, np.random.default_rng(0)) == drawn
