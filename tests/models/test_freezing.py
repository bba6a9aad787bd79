"""The early half of a network keeps its weights."""

from __future__ import annotations

import timm
import torch

from mvp_edge.models.freezing import freeze_early


def test_the_stem_is_frozen_and_the_head_is_not() -> None:
    network = timm.create_model("test_efficientnet", num_classes=3)
    freeze_early(network)
    trained = {n for n, p in network.named_parameters() if p.requires_grad}
    frozen = {n for n, _ in network.named_parameters()} - trained
    assert {"conv_stem.weight", "bn1.bias", "blocks.1.0.conv_exp.weight"} <= frozen
    assert {"classifier.weight", "conv_head.weight", "blocks.4.0.conv_pw.weight"} <= trained
    network(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert all((p.grad is None) == (n in frozen) for n, p in network.named_parameters())
