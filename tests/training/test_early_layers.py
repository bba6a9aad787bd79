"""The early half of a network keeps its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from mvp_edge.config import FitConfig
from mvp_edge.core.streams import torch_rng
from mvp_edge.data import augment, normalise
from mvp_edge.models.bases import Base
from mvp_edge.training.early_layers import VIEWS, ViewBatches, Views, freeze_early, frozen_views, skipped

CPU = torch.device("cpu")
BASE = Base("tiny", "test_efficientnet", (32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), ("a", "b"), "MIT", "")
SETTINGS = FitConfig(iterations=4, batch_size=8, lr=0.1, norms="fixed", crop=2)
IMAGES = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def frozen(name: str) -> nn.Module:
    network = timm.create_model(name, num_classes=2).eval().to(memory_format=torch.channels_last)
    freeze_early(network)
    return network


def views(network: nn.Module, settings: FitConfig = SETTINGS) -> Views | None:
    return frozen_views(network, IMAGES, BASE, settings, 3, CPU)


def test_the_stem_is_frozen_and_the_head_is_not() -> None:
    network = frozen("test_efficientnet")
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    kept = {n for n, _ in network.named_parameters()} - trained
    assert {"conv_stem.weight", "bn1.bias", "blocks.1.0.conv_exp.weight"} <= kept
    assert {"classifier.weight", "conv_head.weight", "blocks.4.0.conv_pw.weight"} <= trained
    network(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert all((p.grad is None) == (n in kept) for n, p in network.named_parameters())


@torch.no_grad()
def test_the_layers_behind_get_what_the_whole_network_would_give_them() -> None:
    network = frozen("test_efficientnet")
    found = views(network)
    assert found is not None and found.count == VIEWS == 6
    for view in range(found.count):
        seen = augment(IMAGES, torch_rng(3, f"view {view}"), 2, 0, mean=BASE.mean)
        whole = network(normalise(seen, BASE.mean, BASE.std))
        with skipped(found.layers):
            part = network(found.of(torch.full((5,), view), torch.arange(5)))
        assert float((part - whole).norm()) < 0.02 * float(whole.norm())
    assert torch.equal(network(normalise(seen, BASE.mean, BASE.std)), whole)  # as before afterwards


@pytest.mark.parametrize(
    ("name", "change", "count"),
    [
        ("test_efficientnet", {}, VIEWS),
        ("test_efficientnet", {"iterations": 2}, 3),
        ("test_efficientnet", {"iterations": 2, "batch_size": 2}, 0),  # an image comes less than once
        ("test_efficientnet", {"norms": "batch"}, 0),
        ("test_efficientnet", {"cutout": 4}, 0),
        ("test_resnet", {}, 0),  # activations and pooling between its layers
    ],
)
def test_views_are_kept_where_they_serve(name: str, change: dict[str, Any], count: int) -> None:
    found = views(frozen(name), replace(SETTINGS, **change))
    assert (0 if found is None else found.count) == count


def test_batches_passed_over_are_those_drawn() -> None:
    found = views(frozen("test_efficientnet"))
    assert found is not None
    labels, index = torch.tensor([0, 1, 0, 1, 1]), np.array([0, 1, 3])
    said = labels[:, None].float()
    one, other = (ViewBatches(found, labels, index, SETTINGS, 5, said) for _ in range(2))
    drawn = [one.next() for _ in range(3)]
    other.skip(2)
    assert torch.equal(other.next().images, drawn[2].images) and not torch.equal(drawn[0].images, drawn[1].images)
    for batch in drawn:
        assert batch.labels.tolist().count(0) in (2, 3)  # a third of them
        assert batch.teacher is not None and torch.equal(batch.labels, batch.teacher[:, 0].long())
