"""Where a vision transformer's training starts: attention that looks like what it will become."""

from __future__ import annotations

import math

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mvp_edge.models.attention import attentions

VALUES, QUERIES = 0.4, 0.7  # weight of the identity, and of the noise, in the two products of Section 3.2


@torch.no_grad()
def initialise(model: VisionTransformer, generator: torch.Generator) -> None:
    """Set attention weights and position embeddings, in place; trained from scratch on few images this saves much time.

    In trained transformers the product of query and key weights resembles the identity (patches look at their like),
    and that of value and projection weights its negative. Positions are the usual sines and cosines.

    References:
        Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", 2023.
    """
    for attention in attentions(model).values():
        query, key, value = attention.qkv.weight.chunk(3)  # views of (D, D) each
        for head in range(attention.num_heads):
            rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
            left, right = _factors(QUERIES, QUERIES, query.shape[1], attention.head_dim, generator)
            query[rows], key[rows] = left.T, right.T
        left, right = _factors(VALUES, -VALUES, value.shape[1], value.shape[0], generator)
        value.copy_(right.T)
        attention.proj.weight.copy_(left)
    height, width = model.patch_embed.grid_size
    positions = build_sincos2d_pos_embed([height, width], model.embed_dim)
    assert model.pos_embed is not None
    prefix = model.pos_embed.shape[1] - len(positions)
    model.pos_embed.copy_(torch.cat([torch.zeros(prefix, model.embed_dim), positions]))


def _factors(noise: float, identity: float, dim: int, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return matrices `(dim, rank)` whose product, left times the transpose of right, is nearest to what is wanted."""
    wanted = noise * torch.randn(dim, dim, generator=generator) / math.sqrt(dim) + identity * torch.eye(dim)
    u, s, vh = torch.linalg.svd(wanted)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, vh[:rank].T * root
