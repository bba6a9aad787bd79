"""Operators whose sizes become numbers while a network is exported: ONNX has none that compute them from a tensor's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class FixedSizes(TorchFunctionMode):
    """While it is entered: pooling to several pixels is two matrix products, and tiling repeats by numbers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.adaptive_avg_pool2d:
            return _pooled(*args, **(kwargs or {}))
        if func is torch.Tensor.tile and not kwargs:
            x, *times = args
            times = [int(n) for n in (times[0] if isinstance(times[0], (tuple, list)) else times)]
            return x.repeat(*[1] * (x.ndim - len(times)), *times)
        return func(*args, **(kwargs or {}))


def _pooled(input: Tensor, output_size: Any) -> Tensor:  # noqa: A002
    sides = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    given = (int(input.shape[-2]), int(input.shape[-1]))
    wanted = tuple(g if w is None else int(w) for g, w in zip(given, sides, strict=True))
    if wanted == (1, 1):
        return F.adaptive_avg_pool2d(input, 1)
    rows, columns = (_means(g, w).to(input.dtype) for g, w in zip(given, wanted, strict=True))
    return rows @ input @ columns.T


def _means(given: int, wanted: int) -> Tensor:
    """Return the matrix `(wanted, given)` whose rows take the mean of what torch pools into a pixel."""
    return F.adaptive_avg_pool1d(torch.eye(given)[None], wanted)[0].T
