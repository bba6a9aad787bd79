"""What a model costs: parameters, multiply-adds and the nominal price of training it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def count_params(model: nn.Module) -> int:
    """Return the number of parameters; a shared tensor counts once."""
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, input_size: tuple[int, int]) -> int:
    """Return the multiply-adds of one RGB image as fvcore counts them.

    fvcore counts convolutions, linear layers, matrix products and norms (a norm that is not folded counts one per
    element or more); it skips additions, activations and softmax. It also skips the fused attention operator, which
    is counted here, so that fused and unfused attention agree.

    Args:
        model: Any network that takes `(N, 3, H, W)`; its mode and its norm statistics are left as they were.
        input_size: Height and width in pixels.
    """
    with _traced(model, input_size) as analysis:
        return int(analysis.total())


def macs_by_module(model: nn.Module, input_size: tuple[int, int]) -> dict[str, int]:
    """Return the multiply-adds of `count_macs` by the name of the module that does them itself, not its children."""
    with _traced(model, input_size) as analysis:
        total = {name: int(n) for name, n in analysis.by_module().items()}
    children = {name: [c for c, _ in module.named_children()] for name, module in model.named_modules()}
    return {
        name: total.get(name, 0) - sum(total.get(f"{name}.{c}".lstrip("."), 0) for c in inner)
        for name, inner in children.items()
    }


@contextmanager
def _traced(model: nn.Module, input_size: tuple[int, int]) -> Iterator[Any]:
    reference = next(model.parameters(), torch.zeros(()))
    image = torch.zeros(1, 3, *input_size, device=reference.device, dtype=reference.dtype)
    modes = [(m, m.training) for m in model.modules()]
    model.eval()  # tracing in training mode would update the norms' running statistics
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # fvcore traces with TorchScript, which torch has deprecated.
            warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
            warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=FutureWarning)
            # Imported here: it costs 0.1 s that most commands need not pay, and warns as well.
            from fvcore.nn import FlopCountAnalysis

            analysis = FlopCountAnalysis(model, image)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
            yield analysis
    finally:
        for module, training in modes:
            module.training = training


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> int:
    """Return the multiply-adds of `softmax(q k^T) v`: each query meets each key once per query and value channel."""
    query, key, value = (v.type().sizes() for v in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def nominal_training_flops(dense_macs: int, keep: float, iterations: int, batch: int) -> float:
    """Return the training cost by the paper's own arithmetic: 2 FLOPs per MAC, backward twice the forward.

    A network with a fraction `keep` of its units costs about `keep**2` of the dense one. This rule reproduces the
    FLOPs columns of the paper's tables (with attention products left out of `dense_macs`); `count_macs` of the
    sliced model is what is measured.

    Args:
        dense_macs: Multiply-adds of the dense model for one image.
        keep: Fraction of units kept, in (0, 1].
        iterations: Optimiser steps.
        batch: Images a step.

    Example:
        >>> round(nominal_training_flops(555_500_000, 0.1, 100, 128) / 1e12, 3)
        0.427
    """
    return 2.0 * 3.0 * dense_macs * keep**2 * iterations * batch
