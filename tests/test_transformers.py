"""Vision transformers: heads, hidden nodes and the embedding's width through everything that reads the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch

from mvp_edge.config import FitConfig, PruneSchedule
from mvp_edge.core.errors import PlanError
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.export import TOLERANCE, export_onnx, take_inventory, verify_onnx
from mvp_edge.models.attention import attentions
from mvp_edge.models.groups import find_groups
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.models.plan import full_plan, make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import faithfulness, masked, slice_model, sliced_copy
from mvp_edge.models.support import try_groups
from mvp_edge.models.tensors import deserialise, serialise
from mvp_edge.models.widening import zero_new_inputs
from mvp_edge.pruners import base_importance, iterative_prune, target_counts
from mvp_edge.pruners.ifp import ImportanceMeter
from mvp_edge.training.loop import BatchSource, reestimate_norms
from mvp_edge.voting.meta_vote import average
from mvp_edge.zoo.member import Member, MemberInfo
from tests.bases import small_base
from tests.transformers import KINDS, SIZE, drawn_plan, small_vit

BASE = small_base("vit", SIZE)


def test_the_groups_are_heads_and_hidden_nodes() -> None:
    table = find_groups(small_vit(), SIZE)
    assert table.widths == {f"blocks.{b}.{n}": w for b in (0, 1) for n, w in (("attn.qkv", 3), ("mlp.fc1", 192))}
    heads, nodes = table.groups[:2]
    assert heads.unit_channels == 16 and nodes.unit_channels == 1
    assert [t.module for t in (*heads.consumers, *nodes.consumers)] == ["blocks.0.attn.proj", "blocks.0.mlp.fc2"]
    assert heads.consumers[0].index[1] == tuple(range(16, 32))
    assert heads.dimensions[0].index[2] == (*range(32, 48), *range(80, 96), *range(128, 144))
    with_width = find_groups(small_vit(), SIZE, "pruned")
    assert with_width.groups[0].name == "patch_embed.proj"
    assert {s.tensor for s in with_width.groups[0].dimensions} >= {
        "pos_embed",
        "cls_token",
        "norm.weight",
        "head.weight",
    }
    assert with_width.groups[1:] == table.groups


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("embedding", ["whole", "pruned"])
def test_sliced_equals_masked(kind: str, embedding: Any) -> None:
    model = small_vit(**KINDS[kind])
    table = find_groups(model, SIZE, embedding)
    images = torch.randn(2, 3, *SIZE)
    for keep in (0.01, 0.3, 0.7):
        plan = drawn_plan(table, keep)
        assert faithfulness(model, table, plan, images) <= 1e-5
        with torch.no_grad(), masked(model, table, plan):
            dropped = model(images)
        assert not torch.allclose(dropped, model(images), atol=1e-2)


@pytest.mark.parametrize("fused", [True, False])
def test_a_sliced_layer_knows_its_heads(fused: bool) -> None:
    model = small_vit()
    for attention in attentions(model).values():
        attention.fused_attn = fused
    table = find_groups(model, SIZE)
    kept = {**full_plan(table.widths).counts, "blocks.1.attn.qkv": 1}
    plan = make_plan(table.widths, {n: range(c) for n, c in kept.items()})
    small = sliced_copy(model, table, plan)
    layer = attentions(small)["blocks.1.attn"]
    assert (layer.num_heads, layer.head_dim, layer.attn_dim, layer.scale) == (1, 16, 16, 0.25)
    assert layer.qkv.weight.shape == (48, 48) and layer.proj.weight.shape == (48, 16)
    assert faithfulness(model, table, plan, torch.randn(2, 3, *SIZE)) <= 1e-5


def test_a_head_and_a_node_stay() -> None:
    table = find_groups(small_vit(), SIZE)
    assert set(target_counts(table, 0.01, 1).values()) == {1, 2}
    assert set(target_counts(table, 0.01, 8).values()) == {1, 8}  # a head is two lanes of 8 channels
    with pytest.raises(PlanError, match="no unit is kept"):
        make_plan(table.widths, {g.name: [] for g in table.groups})


@pytest.mark.parametrize("options", [{"qk_norm": True}, {"scale_attn_norm": True}])
def test_other_forms_of_attention_are_cut_into_heads(options: dict[str, Any]) -> None:
    model = small_vit(**options)
    table = find_groups(model, SIZE)
    assert {"blocks.0.attn.qkv", "blocks.1.attn.qkv"} <= set(table.widths)
    assert faithfulness(model, table, drawn_plan(table, 0.4), torch.randn(2, 3, *SIZE)) <= 1e-5


def test_attention_that_pools_stays_whole_and_the_blocks_are_pruned() -> None:
    model = small_vit(global_pool="map")
    trial = try_groups(model, find_groups(model, SIZE), SIZE)
    assert list(trial.refused) == ["attn_pool.q"]  # timm's code expects it as wide as the embedding
    assert {"blocks.0.attn.qkv", "blocks.1.mlp.fc1", "attn_pool.mlp.fc1"} <= set(trial.table.widths)


@pytest.mark.parametrize("embedding", ["whole", "pruned"])
def test_the_moments_of_adam_are_sliced_along(embedding: Any) -> None:
    model = small_vit().train()
    table = find_groups(model, SIZE, embedding)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    model(torch.randn(2, 3, *SIZE)).square().mean().backward()
    optimizer.step()
    name = "blocks.0.attn.qkv.weight"
    before = optimizer.state[model.get_parameter(name)]["exp_avg"].clone()
    plan = drawn_plan(table, 0.5)
    slice_model(model, table, plan, optimizer=optimizer)
    rows = sorted(p for u in plan["blocks.0.attn.qkv"] for p in table.groups[-4].dimensions[0].index[u])
    columns = list(plan["patch_embed.proj"]) if embedding == "pruned" else list(range(48))
    assert torch.equal(optimizer.state[model.get_parameter(name)]["exp_avg"], before[rows][:, columns])
    for parameter in model.parameters():
        state = optimizer.state[parameter]
        assert state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape
    model(torch.randn(2, 3, *SIZE)).square().mean().backward()
    optimizer.step()


def test_a_voter_with_the_same_plan_is_copied_and_new_heads_are_silent() -> None:
    model = small_vit()
    table = find_groups(model, SIZE, "pruned")
    plan = drawn_plan(table, 0.5)
    base = sliced_copy(model, table, plan).state_dict()
    voter = {k: torch.randn_like(v) for k, v in base.items()}
    found = average(table, plan, base, [(plan, voter)])
    assert all(torch.allclose(found[k], v) for k, v in voter.items())

    table = find_groups(model, SIZE)
    held = make_plan(table.widths, {g.name: range(g.width // 3) for g in table.groups})
    grown = make_plan(table.widths, {g.name: range(g.width // 3 * 2) for g in table.groups})
    small, large = sliced_copy(model, table, held), sliced_copy(model, table, grown)
    large.load_state_dict(zero_new_inputs(table, grown, held, large.state_dict(), "head"))
    images = torch.randn(2, 3, *SIZE)
    assert torch.allclose(small(images), large(images), atol=1e-5)


def test_the_meter_and_the_base_tell_heads_apart() -> None:
    model = small_vit()
    table = find_groups(model, SIZE)
    with torch.no_grad():
        attentions(model)["blocks.0.attn"].qkv.weight.view(3, 3, 16, 48)[:, 1] *= 10  # of all three parts of head 1
    assert base_importance(model, table)["blocks.0.attn.qkv"].argmax() == 1
    meter = ImportanceMeter(model, table, "activation")
    model.train()(torch.randn(4, 3, *SIZE))
    meter.close()
    scores = meter.scores(full_plan(table.widths))
    assert scores["blocks.0.attn.qkv"].shape == (3,) and scores["blocks.0.attn.qkv"].argmax() == 1
    assert scores["blocks.0.mlp.fc1"].shape == (192,)


def test_iterative_pruning_reaches_its_target() -> None:
    model = small_vit(num_classes=2)
    table = find_groups(model, SIZE, "pruned")
    images = torch.randint(0, 256, (16, 3, *SIZE), dtype=torch.uint8)
    config = FitConfig(iterations=8, batch_size=8, lr=1e-3)
    source = BatchSource(ImageSet(images, torch.arange(16) % 2, ("a", "b")), BASE, config, torch.device("cpu"), 0)
    plan = iterative_prune(model, table, source, PruneSchedule(keep=0.4, every=1), config, rng=rng(0, "prune"))
    assert plan.counts == target_counts(table, 0.4, 8)
    assert attentions(model)["blocks.0.attn"].num_heads == 1
    assert model.eval()(torch.randn(2, 3, *SIZE)).isfinite().all()


@pytest.mark.parametrize("embedding", ["whole", "pruned"])
@pytest.mark.parametrize("packing", ["float16", "int8"])
def test_a_member_comes_back_from_its_file(embedding: Any, packing: Any) -> None:
    base = small_base("vit", SIZE, embedding=embedding)
    whole = small_vit()
    with torch.no_grad():
        whole.get_parameter("pos_embed").mul_(
            torch.logspace(-2, 0, 17)[:, None]
        )  # one scale for all tokens would not do
    prunable = PrunableModel.of(base, whole)
    plan = drawn_plan(prunable.table, 0.5)
    model = sliced_copy(prunable.model, prunable.table, plan).eval()
    state, _ = deserialise(serialise(prunable.state_of(model), packing))
    member = Member(MemberInfo("m", cast(Any, None), "specialist", plan, "", {}, 0.0), state)
    restored = member.network(prunable)
    for name, tensor in prunable.state_of(model).items():
        inner = tuple(range(2 if name in ("pos_embed", "cls_token") else 1, tensor.ndim))
        scale = tensor.abs().amax(inner, keepdim=True) if inner else tensor.abs()
        assert ((prunable.state_of(restored)[name] - tensor).abs() <= scale / 31 + 1e-6).all(), name
    images = torch.randn(2, 3, *SIZE)
    assert torch.allclose(restored(images), model(images), atol=0.3)


def test_without_batch_norms_nothing_is_re_estimated() -> None:
    model = small_vit()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    reestimate_norms(model, torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8), BASE, torch.device("cpu"))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("arch", "widths"),
    [
        ("deit_tiny_patch16_224", {3, 768}),
        pytest.param("vit_tiny_patch16_224", {3, 768}, marks=pytest.mark.slow),
        pytest.param("deit_small_patch16_224", {6, 1536}, marks=pytest.mark.slow),
        ("vit_small_patch16_224", {6, 1536}),
    ],
)
@pytest.mark.parametrize("embedding", ["whole", "pruned"])
def test_the_bases_of_timm(arch: str, widths: set[int], embedding: Any, tmp_path: Path) -> None:
    """Sliced as masked, and the file of the sliced network as that network."""
    size, mean, std = (224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    model = timm.create_model(arch, num_classes=10).eval()
    table = find_groups(model, size, embedding)
    assert widths <= set(table.widths.values()) and len(table.groups) == 24 + (embedding == "pruned")
    plan = drawn_plan(table, 0.3)
    assert faithfulness(model, table, plan, torch.randn(2, 3, *size)) <= 1e-5
    sliced, file = sliced_copy(model, table, plan).eval(), tmp_path / "model.onnx"
    labels = [str(i) for i in range(10)]
    export_onnx(sliced, file, input_size=size, mean=mean, std=std, labels=labels, metadata={})
    assert verify_onnx(file, sliced, size, mean, std) <= TOLERANCE
    assert take_inventory(file).largest_rank == 4


def test_attention_is_counted_whether_it_is_fused_or_not() -> None:
    model = timm.create_model("deit_small_patch16_224", num_classes=5)
    counts = []
    for fused in (True, False):
        for attention in attentions(model).values():
            attention.fused_attn = fused
        counts.append(count_macs(model, (224, 224)))
    assert counts == [4_607_956_224] * 2


def test_dropping_heads_costs_less() -> None:
    model = small_vit()
    table = find_groups(model, SIZE)
    one = make_plan(table.widths, {g.name: [0] if g.width == 3 else range(g.width) for g in table.groups})
    small = sliced_copy(model, table, one)
    tokens, width, gone = 17, 48, 32
    saved = 2 * (4 * tokens * width * gone + 2 * tokens**2 * gone)
    assert count_macs(model, SIZE) - count_macs(small, SIZE) == saved
    assert count_params(model) - count_params(small) == 2 * (4 * width * gone + 3 * gone)
