from pathlib import Path

import pytest
import torch
from torch import nn

from mvp_edge.data import open_source
from mvp_edge.models.groups import find_groups
from mvp_edge.models.plan import KeepPlan, make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.widening import can_widen, contains, widen_head, zero_new_inputs
from mvp_edge.training.loop import predict
from mvp_edge.voting.meta_vote import assemble
from mvp_edge.zoo.member import Member
from mvp_edge.zoo.store import open_zoo
from tests.transformers import SIZE, small_vit

CPU = torch.device("cpu")


@pytest.fixture
def prunable(tiny_zoo: Path) -> PrunableModel:
    zoo = open_zoo(str(tiny_zoo))
    return PrunableModel.of(zoo.base, zoo.load_base())


@pytest.fixture
def member(tiny_zoo: Path) -> Member:
    zoo = open_zoo(str(tiny_zoo))
    return zoo.load(zoo.infos()[0])


def grown(plan: KeepPlan, more: int) -> KeepPlan:
    kept = {}
    for group in plan.groups:
        new = [u for u in range(group.width) if u not in group.kept][:more]
        kept[group.name] = [*group.kept, *new]
    return make_plan(plan.widths, kept)


@pytest.mark.parametrize("more", [0, 1, 5])
def test_a_grown_network_computes_what_the_member_does(
    prunable: PrunableModel, member: Member, images: Path, more: int
) -> None:  # fmt: skip
    names = member.info.task.names
    data = open_source(str(images)).load(names, "train", prunable.base.input_size)
    plan = grown(member.info.plan, more)
    model = assemble(prunable, plan, [member], member.info.task, data, device=CPU)
    expected = predict(member.network(prunable), data.images, prunable.base, CPU)
    assert sum(p.numel() for p in model.parameters()) >= sum(v.numel() for v in member.state.values() if v.ndim > 1)
    assert torch.allclose(predict(model, data.images, prunable.base, CPU), expected, atol=1e-4)


def test_new_units_learn(prunable: PrunableModel, member: Member, images: Path) -> None:
    data = open_source(str(images)).load(member.info.task.names, "train", prunable.base.input_size)
    model = assemble(prunable, grown(member.info.plan, 4), [member], member.info.task, data, device=CPU).train()
    out = model(torch.randn(4, 3, *prunable.base.input_size))
    out.square().mean().backward()
    for group in prunable.table.groups:
        reads = [t for t in group.consumers if t.module != prunable.head]
        gradients = [model.get_parameter(f"{t.module}.weight").grad for t in reads]
        assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_contains() -> None:
    small = make_plan({"g": 4, "h": 4}, {"g": [1, 2], "h": [0]})
    assert contains(make_plan({"g": 4, "h": 4}, {"g": [0, 1, 2], "h": [0, 3]}), small)
    assert contains(small, small)
    assert not contains(make_plan({"g": 4, "h": 4}, {"g": [0, 1, 2], "h": [3]}), small)
    assert not contains(make_plan({"g": 5, "h": 4}, {"g": [0, 1, 2], "h": [0]}), small)


def test_silence_leaves_what_is_held(prunable: PrunableModel, member: Member) -> None:
    held = member.info.plan
    assert all((a == b).all() for a, b in zip(
        zero_new_inputs(prunable.table, held, held, prunable.headless(member.state), prunable.head).values(),
        prunable.headless(member.state).values(), strict=True,
    ))  # fmt: skip
    rows = nn.Linear(len(held.groups[-1].kept), 2)
    assert widen_head(rows, prunable.table, held, held, prunable.head) is rows


def test_a_layer_norm_hears_what_nothing_reads() -> None:
    table = find_groups(small_vit(), SIZE, "pruned")
    held = make_plan(table.widths, {g.name: range(g.width // 3) for g in table.groups})
    deeper = make_plan(table.widths, {**{g.name: g.kept for g in held.groups}, "blocks.0.mlp.fc1": range(100)})
    wider = make_plan(table.widths, {**{g.name: g.kept for g in held.groups}, "patch_embed.proj": range(20)})
    assert can_widen(table, held, held) and can_widen(table, deeper, held)
    assert not can_widen(table, wider, held) and not can_widen(table, held, deeper)


def test_a_batch_norm_does_not(prunable: PrunableModel, member: Member) -> None:
    assert can_widen(prunable.table, grown(member.info.plan, 5), member.info.plan)
