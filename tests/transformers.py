"""Small vision transformers with random weights, lively enough that what is dropped shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mvp_edge.models.groups import GroupTable
from mvp_edge.models.plan import KeepPlan, keep_count, make_plan

SIZE = (32, 32)
KINDS: dict[str, dict[str, Any]] = {
    "class token": {},
    "average": {"class_token": False, "global_pool": "avg"},
    "registers": {"reg_tokens": 2, "no_embed_class": True},
    "layer scale": {"init_values": 0.1},
    "no bias": {"qkv_bias": False},
}


def small_vit(**options: Any) -> VisionTransformer:
    """Return a network of two blocks with three heads of 16 channels, in eval mode."""
    torch.manual_seed(0)
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 7}
    model = VisionTransformer(**{**settings, **options})
    for tensor in model.parameters():
        nn.init.normal_(tensor, std=0.3)
    return model.eval()


def drawn_plan(table: GroupTable, keep: float, seed: int = 0) -> KeepPlan:
    """Return a plan of random units in lanes of 8 channels."""
    draw = np.random.default_rng(seed)
    counts = {g.name: keep_count(g.width, keep, 8, g.unit_channels) for g in table.groups}
    return make_plan(table.widths, {n: draw.choice(table.widths[n], c, replace=False) for n, c in counts.items()})
