"""Multi-head self-attention as timm writes it: one linear layer for queries, keys and values, one that joins the heads.

A head is `head_dim` channels of each of the three. Heads may go; `head_dim` and the softmax's scale never change. The
only place that touches private names of timm's transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

from torch import Tensor, nn


def is_attention(layer: nn.Module) -> TypeGuard[Any]:
    """Return whether a layer is self-attention of this form."""
    linear = all(isinstance(getattr(layer, name, None), nn.Linear) for name in ("qkv", "proj"))
    return linear and all(isinstance(getattr(layer, name, None), int) for name in ("num_heads", "head_dim"))


def attentions(model: nn.Module) -> dict[str, Any]:
    """Return the self-attention layers of a model by name, in the order of the forward pass."""
    return {name: layer for name, layer in model.named_modules() if is_attention(layer)}


def embed_tokens(vit: Any, patches: Tensor) -> Tensor:
    """Return tokens `(N, T, C)` of patches, with positions, class and register tokens added."""
    return vit._pos_embed(patches)


def replace_token_embedding(vit: Any, embed: Callable[[Tensor], Tensor]) -> None:
    """Let a transformer make its tokens `(N, T, C)` from the map of patches `(N, C, H, W)` by `embed`, in place."""
    # In the instance's dictionary, because a registered module would be found only after the method of the class.
    vit.__dict__["_pos_embed"] = embed
    vit.patch_embed.flatten = False
