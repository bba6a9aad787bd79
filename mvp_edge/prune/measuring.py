"""What the delivered file costs beside the whole base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from mvp_edge.budget.costs import costs_of
from mvp_edge.export import take_inventory
from mvp_edge.models.architectures import head_of
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.prune.gate import latency_record
from mvp_edge.report.record import BytesRecord, LatenciesRecord
from mvp_edge.timing.latency import Timing, time_files


@dataclass(frozen=True, eq=False)
class Costs:
    """Measured costs of the delivered file and of the whole base model."""

    params: int
    base_params: int
    macs: int
    base_macs: int
    unprunable_macs: int
    bytes: BytesRecord
    latency_ms: LatenciesRecord

    @property
    def limited(self) -> dict[str, float]:
        """The figures that a budget limits, by its names."""
        kib = self.bytes.onnx / 1024
        return {
            "latency_ms": self.latency_ms.pruned.median, "macs": self.macs, "params": self.params, "size_kib": kib
        }  # fmt: skip


def measure(
    file: Path, others: Sequence[Path], whole: Path, model: nn.Module, prunable: PrunableModel
) -> tuple[Costs, list[Timing]]:
    """Compare the delivered file with the whole base model and with other precisions, in turns in one process.

    Args:
        file: The delivered model.
        others: The same in other precisions.
        whole: The base model, exported.
        model: The network of the file.
        prunable: The base model.

    Returns:
        The costs, and the timings of the delivered file and of the others.
    """
    base_model, input_size = prunable.model, prunable.base.input_size
    base_timing, *other_timings, timing = time_files([whole, *others, file])
    stored, fast = take_inventory(file), timing.latency()
    base_macs = count_macs(base_model, input_size)
    reach = costs_of(base_model, prunable.table, input_size, prunable.head, head_of(base_model).out_features)
    unprunable, _ = reach.fraction_left(np.ones_like(reach.widths))
    costs = Costs(
        params=count_params(model),
        base_params=count_params(base_model),
        macs=count_macs(model, input_size),
        base_macs=base_macs,
        unprunable_macs=round(base_macs * unprunable),
        bytes=BytesRecord(onnx=stored.file_bytes, parameters=stored.parameter_bytes, dense_onnx=whole.stat().st_size),
        latency_ms=LatenciesRecord(
            dense=latency_record(base_timing),
            pruned=latency_record(timing),
            threads=fast.threads,
            runs=fast.runs,
            clock=fast.clock,
        ),
    )
    return costs, [timing, *other_timings]


def slower(costs: Costs) -> list[str]:
    """Return a warning if the model is slower than the whole base model."""
    if costs.latency_ms.pruned.median <= costs.latency_ms.dense.median:
        return []
    return ["the pruned model is slower than the dense one here; keep less, or set --channel-multiple to 8 or 16"]
