"""Operators whose sizes become numbers while a network is exported: ONNX has none that compute them from a tensor's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class _FixedPool(nn.AdaptiveAvgPool2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        size = self.output_size if isinstance(self.output_size, tuple) else (self.output_size, self.output_size)
        given = (int(input.shape[-2]), int(input.shape[-1]))
        wanted = tuple(g if w is None else int(w) for g, w in zip(given, size, strict=True))
        if wanted == (1, 1):
            return super().forward(input)
        rows, columns = (_means(g, w).to(input.dtype) for g, w in zip(given, wanted, strict=True))
        return rows @ input @ columns.T


def _means(given: int, wanted: int) -> Tensor:
    """Return the matrix `(wanted, given)` whose rows take the mean of what torch pools into a pixel."""
    return F.adaptive_avg_pool1d(torch.eye(given)[None], wanted)[0].T


class _Repeated(TorchFunctionMode):
    """Repeats a tensor where it is tiled, which the exporter turns into branches."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.Tensor.tile or kwargs:
            return func(*args, **(kwargs or {}))
        x, *times = args
        times = [int(n) for n in (times[0] if isinstance(times[0], (tuple, list)) else times)]
        return x.repeat(*[1] * (x.ndim - len(times)), *times)


@contextmanager
def fixed_sizes(model: nn.Module) -> Iterator[None]:
    """Pool to several pixels by two matrix products, and tile by numbers, for a while."""
    found = [module for module in model.modules() if type(module) is nn.AdaptiveAvgPool2d]
    for module in found:
        cast(Any, module).__class__ = _FixedPool
    try:
        with _Repeated():
            yield
    finally:
        for module in found:
            cast(Any, module).__class__ = nn.AdaptiveAvgPool2d
