"""Attention that looks like trained attention before it is trained."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from mvp_edge.models.attention import attentions
from mvp_edge.models.mimetic import QUERIES, VALUES, initialise

DIM, HEADS = 48, 4


@pytest.fixture(params=[True, False], ids=["class token", "mean"])
def model(request: pytest.FixtureRequest) -> VisionTransformer:
    return VisionTransformer(
        img_size=16, patch_size=4, embed_dim=DIM, depth=2, num_heads=HEADS, num_classes=3,
        class_token=request.param, global_pool="token" if request.param else "avg",
    )  # fmt: skip


def test_products_resemble_the_identity(model: VisionTransformer) -> None:
    initialise(model, torch.Generator().manual_seed(0))
    for attention in attentions(model).values():
        query, key, value = attention.qkv.weight.detach().chunk(3)
        mixed = attention.proj.weight.detach() @ value
        assert mixed.diagonal().mean() == pytest.approx(-VALUES, abs=0.05)
        assert (mixed - mixed.diagonal().diag()).std() == pytest.approx(VALUES / DIM**0.5, rel=0.2)
        size = DIM // HEADS
        for head in range(HEADS):
            rows = slice(head * size, (head + 1) * size)
            product = query[rows].T @ key[rows]
            assert torch.linalg.matrix_rank(product) == size
            # The best approximation of its rank keeps the largest parts of noise and identity alike.
            assert 0 < product.diagonal().mean() <= QUERIES
            assert product.diagonal().mean() > 3 * (product - product.diagonal().diag()).mean().abs()


def test_positions_are_told_apart_and_prefix_tokens_have_none(model: VisionTransformer) -> None:
    initialise(model, torch.Generator().manual_seed(0))
    positions = model.get_parameter("pos_embed").detach()[0, model.num_prefix_tokens :]
    likeness = positions @ positions.T
    assert (likeness.argmax(1) == torch.arange(16)).all()
    assert likeness[0, 1] > likeness[0, 3]  # neighbours resemble each other more than distant patches
    assert model.get_parameter("pos_embed")[0, : model.num_prefix_tokens].abs().sum() == 0


def test_the_generator_decides(model: VisionTransformer) -> None:
    weights = []
    for seed in (0, 0, 1):
        initialise(model, torch.Generator().manual_seed(seed))
        weights.append(model.get_parameter("blocks.1.attn.qkv.weight").detach().clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert model(torch.zeros(1, 3, 16, 16)).isfinite().all()
