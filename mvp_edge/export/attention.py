"""Vision transformers in a form that phone runtimes load: no tensor above rank 4, no shape computed at run time.

timm slices queries, keys and values from one tensor of rank 5, which several converters reject. Here they are three
separate layers, the first scaled by the softmax's factor. Class and register tokens are added to the position table
once, so that patches only need padding. The results are the same.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from timm.layers import Attention, PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.models.attention import attentions, embed_tokens, replace_token_embedding


def for_phones(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode with attention and token embedding rewritten; a network without attention unchanged.

    Attention beyond timm's plain form (gates, norms over heads, class-dependent biases) is not rewritten.
    """
    found = {n: a for n, a in attentions(model).items() if type(a) is Attention and not _has_extras(a)}
    if not found:
        return model
    clone = copy.deepcopy(model)
    for name, attention in found.items():
        path, _, leaf = name.rpartition(".")
        setattr(clone.get_submodule(path), leaf, FourDimensional(attention))
    if isinstance(clone, VisionTransformer) and _has_plain_patches(clone):
        replace_token_embedding(clone, Tokens(clone))
    return clone.eval()


class FourDimensional(nn.Module):
    """Self-attention `(N, T, C)` with separate projections; no tensor has more than four dimensions."""

    def __init__(self, original: Attention) -> None:
        super().__init__()
        self.heads, self.head_dim = original.num_heads, original.head_dim
        with torch.no_grad():
            weights, biases = original.qkv.weight.chunk(3), [None] * 3
            if original.qkv.bias is not None:
                biases = list(original.qkv.bias.chunk(3))
            self.q = _linear(weights[0] * original.scale, None if biases[0] is None else biases[0] * original.scale)
            self.k, self.v = _linear(weights[1], biases[1]), _linear(weights[2], biases[2])
        self.proj = original.proj

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        """Return the tokens `(N, T, C)` after attention; masks are ignored, as images need none."""
        tokens = int(x.shape[1])  # a constant: only the batch is free
        q, k, v = (layer(x).reshape(-1, tokens, self.heads, self.head_dim) for layer in (self.q, self.k, self.v))
        weight = (q.permute(0, 2, 1, 3) @ k.permute(0, 2, 3, 1)).softmax(-1)
        joined = (weight @ v.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        return self.proj(joined.reshape(-1, tokens, self.heads * self.head_dim))


class Tokens:
    """Turns a map of patches `(N, C, H, W)` into tokens `(N, T, C)` with positions, class and register tokens."""

    def __init__(self, original: VisionTransformer) -> None:
        height, width = original.patch_embed.grid_size
        with torch.no_grad():
            nothing = torch.zeros(1, height * width, original.patch_embed.proj.out_channels)
            self.table = embed_tokens(original, nothing)
        self.patches, self.prefix = height * width, self.table.shape[1] - height * width

    def __call__(self, x: Tensor) -> Tensor:
        """Return tokens `(N, T, C)`."""
        patches = x.reshape(-1, int(x.shape[1]), self.patches).permute(0, 2, 1)
        tokens = cast(Tensor, _Lead.apply(patches, self.prefix)) if self.prefix else patches
        return tokens + self.table


class _Lead(torch.autograd.Function):
    """Puts zeros before the tokens `(N, T, C)`; torch's own export would compute the widths at run time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, count: int) -> Tensor:
        return F.pad(x, (0, 0, count, 0))

    @staticmethod
    def symbolic(g: Any, x: Any, count: int) -> Any:
        return g.op("Pad", x, g.op("Constant", value_t=torch.tensor([0, count, 0, 0, 0, 0])))


def _has_extras(attention: Any) -> bool:
    extras = (attention.q_norm, attention.k_norm, getattr(attention, "norm", None), getattr(attention, "gate", None))
    return any(e is not None and not isinstance(e, nn.Identity) for e in extras)


def _has_plain_patches(model: Any) -> bool:
    patches = model.patch_embed
    plain = type(patches) is PatchEmbed and patches.flatten and isinstance(patches.norm, nn.Identity)
    return plain and model.pos_embed is not None and not model.dynamic_img_size


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer
