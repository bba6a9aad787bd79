"""Multi-head self-attention as timm writes it: one linear layer for queries, keys and values, one that joins the heads.

A head is `head_dim` channels of each of the three. Heads may go; `head_dim` and the softmax's scale never change.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from torch import nn


def is_attention(layer: nn.Module) -> TypeGuard[Any]:
    """Say whether a layer is self-attention of this form."""
    linear = all(isinstance(getattr(layer, name, None), nn.Linear) for name in ("qkv", "proj"))
    return linear and all(isinstance(getattr(layer, name, None), int) for name in ("num_heads", "head_dim"))


def attentions(model: nn.Module) -> dict[str, Any]:
    """Return the self-attention layers of a model by name, in the order of the forward pass."""
    return {name: layer for name, layer in model.named_modules() if is_attention(layer)}


def mend_attention(layer: Any) -> None:
    """Make the layer's own record of its heads true again after `qkv` was sliced, in place."""
    layer.num_heads = layer.qkv.weight.shape[0] // (3 * layer.head_dim)
    layer.attn_dim = layer.num_heads * layer.head_dim
