"""Magnitude pruning with torch-pruning's own pruner: what somebody who knows the library does in a few lines."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from benchmarks.methods import headed, tuned
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_host
from mvp_edge.core.errors import PlanError
from mvp_edge.models.architectures import head_of
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.pruners import target_counts


@dataclass(frozen=True)
class Magnitude:
    """The base cut once to its filters of the largest L2 norm, with a head in closed form, then fine-tuned.

    Attributes:
        keep: Fraction of every group's units, in channel multiples as everywhere.
        channel_multiple: Counts are multiples of this many channels.
    """

    keep: float = 0.1
    channel_multiple: int = 8

    def __call__(self, setting: Setting, config: FitConfig) -> nn.Module:
        """Prune a copy of the base model and train it on the setting's task."""
        model = cut_by_magnitude(
            setting.prunable, target_counts(setting.prunable.table, self.keep, self.channel_multiple)
        )
        return tuned(setting, headed(setting, model), config)


def cut_by_magnitude(prunable: PrunableModel, counts: Mapping[str, int]) -> nn.Module:
    """Return a copy of the base model that torch-pruning has cut to so many units of each group.

    Raises:
        PlanError: the library has kept other numbers than it was told.
    """
    model = on_host(copy.deepcopy(prunable.model))
    # Half a unit more than wanted: the library cuts off what is left of the fraction.
    ratios: dict[Any, float] = {
        model.get_submodule(n): 1 - (counts[n] + 0.5) / width for n, width in prunable.table.widths.items()
    }
    with torch.enable_grad():
        pruner = tp.pruner.BasePruner(
            model, torch.zeros(1, 3, *prunable.base.input_size), importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.0, pruning_ratio_dict=ratios, ignored_layers=[head_of(model)],
            # The library's defaults are dictionaries that all pruners of a process share.
            in_channel_groups={}, out_channel_groups={}, num_heads={},
        )  # fmt: skip
        pruner.step()
    kept = {n: len(next(model.get_submodule(n).parameters())) for n in counts}
    if kept != dict(counts):
        raise PlanError(f"torch-pruning kept {kept} where {dict(counts)} were wanted; use counts that its rules allow")
    return model.eval()
