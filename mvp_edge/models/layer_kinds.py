"""Kinds of layers: those with weights, norms over channels, and which dimension such a norm takes."""

from __future__ import annotations

from typing import Any

from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm import RmsNorm, RmsNorm2d, RmsNorm2dFp32, RmsNormFp32
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
WEIGHTED = (*CONVOLUTIONS, nn.Linear)
CHANNEL_NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, RmsNorm2d, RmsNormFp32, RmsNorm2dFp32, GlobalResponseNorm,
)  # fmt: skip


def channel_axis(norm: Any, x: Tensor) -> int | None:
    """Return the dimension over which a norm takes its statistics, None where it is not one dimension."""
    weight = getattr(norm, "weight", None)
    count = weight.numel() if weight is not None else getattr(norm, "num_channels", None)
    if weight is not None and weight.ndim != 1:
        return None
    first = isinstance(norm, nn.GroupNorm) or "2d" in type(norm).__name__.lower()
    if isinstance(norm, GlobalResponseNorm):
        first = norm.channel_dim == 1
    axis = 1 if first else x.ndim - 1
    return axis if count is None or x.shape[axis] == count else None
