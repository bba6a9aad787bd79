"""The coupling of a network's layers, from torch-pruning. The only place that touches the internals of its graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn


@dataclass(frozen=True)
class Coupling:
    """One dimension of a layer or free parameter that is pruned with a group.

    Attributes:
        target: The layer or parameter.
        is_output: Whether its output channels are pruned, else its input channels.
        positions: Positions in the dimension.
        units: For each position, the unit of the group.
    """

    target: nn.Module | nn.Parameter
    is_output: bool
    positions: Sequence[int]
    units: Sequence[int]


def coupled_groups(
    model: nn.Module, input_size: tuple[int, int], ignored: nn.Module, roots: Sequence[type[nn.Module]]
) -> list[list[Coupling]]:
    """Return the groups of coupled dimensions, each with the dimension that torch-pruning starts from first.

    Args:
        model: A network whose parameters require gradients; it is not changed.
        input_size: Height and width of an image that it accepts.
        ignored: A layer whose outputs are not pruned.
        roots: Types of the layers that a group may start from.
    """
    training = model.training
    parameter = next(model.parameters())
    example = torch.zeros(1, 3, *input_size, device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about free parameters (layer scale), which are handled
            graph = tp.DependencyGraph().build_dependency(model, example)
        return [
            [
                Coupling(
                    item.dep.target.module,
                    graph.is_out_channel_pruning_fn(item.dep.handler),
                    item.idxs,
                    item.root_idxs,
                )
                for item in group
            ]
            for group in graph.get_all_groups(ignored_layers=[ignored], root_module_types=list(roots))
        ]
    finally:
        model.train(training)
