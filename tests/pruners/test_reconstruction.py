"""Projections solved in closed form, on a small network with random weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch

from mvp_edge.data import normalise
from mvp_edge.models.bases import Base
from mvp_edge.models.macs import count_macs
from mvp_edge.models.plan import full_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.pruners.reconstruction import counts_within, hidden_groups, importance, reconstructed
from mvp_edge.pruners.units import top_plan

SIZE = (32, 32)


@pytest.fixture(scope="module")
def prunable() -> PrunableModel:
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=5).eval()
    mean = (0.5, 0.5, 0.5)
    return PrunableModel.of(Base("timm:test_efficientnet", "test_efficientnet", SIZE, mean, mean), network)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    pixels = torch.randint(0, 256, (40, 3, *SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return normalise(pixels, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_network_that_keeps_all_stays_itself(prunable: PrunableModel, images: torch.Tensor) -> None:
    with torch.no_grad():
        wanted = prunable.model(images)
        found = reconstructed(prunable, full_plan(prunable.table.widths), images)(images)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_solving_comes_nearer_than_slicing(prunable: PrunableModel, images: torch.Tensor) -> None:
    whole: Any = prunable.model
    scores = importance(prunable, images)
    counts = counts_within(prunable, scores, int(0.8 * count_macs(whole, SIZE)))
    assert {n for n, w in prunable.table.widths.items() if counts[n] < w} <= set(hidden_groups(prunable.table))
    plan = top_plan(prunable.table, scores, counts)
    assert not plan.is_full
    with torch.no_grad():
        solved: Any = reconstructed(prunable, plan, images)
        sliced: Any = sliced_copy(whole, prunable.table, plan).eval()
        off = [
            (net.forward_features(images) - whole.forward_features(images)).square().mean() for net in (solved, sliced)
        ]
    assert off[0] < 0.9 * off[1]


def test_a_constant_unit_does_not_matter(prunable: PrunableModel, images: torch.Tensor) -> None:
    own, name = copy.deepcopy(prunable), hidden_groups(prunable.table)[0]
    norm: Any = own.model.get_submodule(name.rpartition(".")[0]).bn1
    assert importance(own, images)[name].min() > 0
    with torch.no_grad():
        norm.weight[1], norm.bias[1] = 0.0, 3.0
    scores = importance(own, images)[name]
    assert scores.argmin() == 1
    assert scores[1] == pytest.approx(0, abs=1e-9)


def test_the_cheapest_loss_goes_first(prunable: PrunableModel, images: torch.Tensor) -> None:
    scores, macs = importance(prunable, images), int(0.9 * count_macs(prunable.model, SIZE))
    counts = counts_within(prunable, scores, macs)
    network = sliced_copy(prunable.model, prunable.table, top_plan(prunable.table, scores, counts))
    assert 0.9 * macs < count_macs(network, SIZE) <= macs
    spared = hidden_groups(prunable.table)[0]
    assert counts[spared] < prunable.table.widths[spared]
    dearer = {**scores, spared: 1e9 * scores[spared]}
    assert counts_within(prunable, dearer, macs)[spared] == prunable.table.widths[spared]
    with pytest.raises(ValueError, match="multiply-adds"):
        counts_within(prunable, scores, 1000)
