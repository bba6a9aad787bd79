"""What training costs: as the paper's tables count it, and as the layers that run say."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from mvp_edge.config import PruneSchedule
from mvp_edge.models.macs import nominal_training_flops


class CostMeter:
    """Counts the multiply-adds of every convolution and linear layer that runs within the block, on any network.

    A training pass counts three times, since the backward pass costs twice the forward one. Networks that are sliced
    on the way are counted at the size they have at each step; masks do not make anything cheaper.

    Attributes:
        macs: Counted so far.
    """

    def __init__(self) -> None:
        self.macs = 0

    @property
    def tflops(self) -> float:
        """The same in 10**12 floating-point operations, two for each multiply-add."""
        return 2 * self.macs / 1e12

    def __enter__(self) -> CostMeter:
        self._handle = register_module_forward_hook(self._count)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._handle.remove()

    def _count(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.jit.is_tracing():
            return  # an analysis of the network, no work on images; its sizes are tensors
        if isinstance(module, nn.Conv2d | nn.Linear):
            passes = 3 if module.training and torch.is_grad_enabled() else 1
            self.macs += passes * output.numel() * module.weight[0].numel()


def nominal_tflops(dense_macs: int, dense_iterations: float, batch: int) -> float:
    """Return the paper's training cost of so many iterations of the whole network, in 10**12 operations."""
    return nominal_training_flops(dense_macs, 1.0, 1, batch) * dense_iterations / 1e12


def ifp_dense_iterations(schedule: PruneSchedule, iterations: int) -> float:
    """Return to how many iterations of the whole network a run of iterative pruning amounts by the paper's rule.

    Example:
        >>> round(ifp_dense_iterations(PruneSchedule(keep=0.1, drop=0.2), 1000), 1)
        36.5
    """
    every = schedule.every or max(1, iterations // 100)
    keep, total = 1.0, 0.0
    for step in range(iterations):
        if step > 0 and step % every == 0:
            keep = max(schedule.keep, keep * (1 - schedule.drop))
        total += keep**2
    return total
