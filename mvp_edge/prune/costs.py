"""What the delivered file costs beside the whole base model, and what it makes of a budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mvp_edge.budget.costs import costs_of
from mvp_edge.config import PruneConfig
from mvp_edge.export import take_inventory
from mvp_edge.models.architectures import head_of
from mvp_edge.models.macs import count_macs, count_params, nominal_training_flops
from mvp_edge.prune.outcome import Outcome
from mvp_edge.timing.latency import Timing, time_within

OVER, UNDER = 1.05, 0.9  # of a limit: what is said aloud


def measure(
    file: Path, others: Sequence[Path], whole: Path, outcome: Outcome, config: PruneConfig
) -> tuple[dict[str, Any], list[Timing]]:
    """Compare the delivered file with the whole base model and with other precisions, in turns in one process.

    Args:
        file: The delivered model.
        others: It in other precisions.
        whole: The base model, exported.
        outcome: The run that made the file.
        config: What was asked for.

    Returns:
        What the report tells of the costs, and the timings of the delivered file and of the others.
    """
    prunable, base_model, input_size = outcome.prunable, outcome.prunable.model, outcome.prunable.base.input_size
    limit = config.budget.latency_ms if config.budget else None
    base_timing, *other_timings, timing = time_within(OVER * (limit or math.inf), [whole, *others, file])
    slow, fast = base_timing.latency(), timing.latency()
    stored = take_inventory(file)
    base_macs = count_macs(base_model, input_size)
    reach = costs_of(base_model, prunable.table, input_size, prunable.head, head_of(base_model).out_features)
    floor, _ = reach.fraction_left(np.ones_like(reach.widths))
    keep = outcome.plan.achieved if config.budget else config.vote.keep
    nominal = nominal_training_flops(base_macs, keep, outcome.tuned.iterations, outcome.tuned.fit.batch_size)
    costs = {
        "params": count_params(outcome.model),
        "base_params": count_params(base_model),
        "macs": count_macs(outcome.model, input_size),
        "base_macs": base_macs,
        "unprunable_macs": round(base_macs * floor),
        "nominal_training_tflops": round(nominal / 1e12, 4),
        "bytes": {
            "onnx": stored.file_bytes,
            "parameters": stored.parameter_bytes,
            "dense_onnx": whole.stat().st_size,
        },
        "latency_ms": {
            "dense": slow.to_json(),
            "pruned": fast.to_json(),
            "threads": fast.threads,
            "runs": fast.runs,
            "clock": fast.clock,
        },
    }
    return costs, [timing, *other_timings]


def slowed(costs: Mapping[str, Any]) -> list[str]:
    """Return a warning if the model takes longer than the whole base model."""
    slow, fast = (costs["latency_ms"][k]["median"] for k in ("dense", "pruned"))
    if fast <= slow:
        return []
    return ["the pruned model is slower than the dense one here; keep less, or channel_multiple to 8 or 16"]


def spent(
    config: PruneConfig, achieved_keep: float, costs: Mapping[str, Any]
) -> tuple[dict[str, dict[str, float]] | None, list[str]]:
    """Return each limit with what was achieved, and warnings of one that is exceeded or of a budget far from used up.

    Args:
        config: What was asked for; without a budget there is nothing to return.
        achieved_keep: Fraction of the units that the model has.
        costs: What `measure` found.
    """
    if config.budget is None:
        return None, []
    figures = {
        "latency_ms": costs["latency_ms"]["pruned"]["median"],
        "macs": costs["macs"],
        "params": costs["params"],
        "size_kib": costs["bytes"]["onnx"] / 1024,
    }
    limits = {k: {"limit": v, "achieved": round(figures[k], 4)} for k, v in config.budget.given.items()}
    warnings = [
        f"{name} is {value['achieved']:g}, over the budget of {value['limit']:g}"
        + ("; other programs may have slowed the measurement down" if name == "latency_ms" else "")
        for name, value in limits.items()
        if value["achieved"] > OVER * value["limit"]
    ]
    if max(v["achieved"] / v["limit"] for v in limits.values()) < UNDER and achieved_keep < 1:
        why = "no larger network that fits was found"
        if config.data is None:
            why = "without images a member is delivered as it is; --data DIR makes networks between their sizes"
        warnings.append(f"the budget is not used up: {why}")
    return limits, warnings
