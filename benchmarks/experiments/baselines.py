"""Ours against baselines at equal latency: a network off the shelf, a magnitude-pruned base, published networks.

    python -m benchmarks baselines --data DIR --folder mobilenetv2_100=FILE.safetensors

All are fine-tuned for the same 100 iterations of the same images, at rates that `rates` has chosen on held-out training
images of other tasks, or the tool's own where it has no records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from benchmarks.baselines.magnitude import Magnitude, cut_by_magnitude
from benchmarks.baselines.off_the_shelf import ARCH, OffTheShelf, load
from benchmarks.experiments.rates import Train, baseline_row, suited, weights
from benchmarks.measurements.edge_latency import cut, export
from benchmarks.methods import GENERALIST, TOOL
from benchmarks.rows import mvp_row
from benchmarks.suite import Context, Experiment, Row
from mvp_edge.config import VoteConfig
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import Base
from mvp_edge.models.macs import count_macs
from mvp_edge.pruners import target_counts
from mvp_edge.timing.latency import Contender, time_in_turns

WAYS = 5
KEEPS = (0.1, 0.2, 0.3)
PIXELS = (32, 64)
LATENCY = "latency"
ROUNDS = 20
Shape = Callable[[], tuple[Base, nn.Module]]
"""A network of the shape that a row delivers: latency does not depend on what the weights are."""


def rows(context: Context) -> list[Row]:
    """Return the row that times all networks in turns, and one for each of them."""
    found = [_tool(context, keep) for keep in KEEPS]
    found += [_magnitude(context, "magnitude", KEEPS[0])]
    found += [_magnitude(context, "magnitude-distill", keep) for keep in KEEPS]
    found += [_mobilenet(context, pixels) for pixels in PIXELS]
    at_hand = [pair for pair in found if ARCH in context.folders or pair[0].method != "mobilenetv2"]
    shapes = {row.name.replace("prune-", "tool-"): shape for row, shape in at_hand}  # as earlier records have it
    hyper = {"rows": list(shapes), "rounds": ROUNDS, "threads": 1}
    clock = Row(LATENCY, LATENCY, "latency, all in turns", lambda s: {"notes": timed(shapes, ROUNDS)}, hyper=hyper,
                form="none", tasks="once")  # fmt: skip
    return [clock, *(row for row, _ in found)]


def timed(shapes: Mapping[str, Shape], rounds: int) -> dict[str, float | None]:
    """Export networks and time them against each other on one thread.

    Returns:
        By `NAME/FIGURE`: `ms` (median), `ratio` (time by that of the first, paired by rounds; None if other programs
        disturbed it), `waited` (share of the time in which other programs ran), `mmacs`, and `kib` of the file.
    """
    found: dict[str, float | None] = {}
    with TemporaryDirectory() as scratch:
        files = {}
        for name, shape in shapes.items():
            base, model = shape()
            files[name] = export(base, model.eval(), Path(scratch) / f"{name}.onnx")
            found[f"{name}/mmacs"] = round(count_macs(model, base.input_size) / 1e6, 2)
            found[f"{name}/kib"] = round(files[name].stat().st_size / 1024, 1)
        timings = time_in_turns([Contender(file) for file in files.values()], rounds, budget_s=float("inf"))
    for name, timing in zip(files, timings, strict=True):
        latency, ratio = timing.latency(), timing.ratio_to(timings[0])
        found[f"{name}/ms"] = round(latency.median_ms, 4)
        found[f"{name}/ratio"] = ratio and round(ratio.median, 3)
        found[f"{name}/waited"] = round(latency.waited, 3)
    return found


def _tool(context: Context, keep: float) -> tuple[Row, Shape]:
    is_default = keep == VoteConfig().keep
    title = f"**`mvp-edge prune{'' if is_default else f' --keep {keep:g}'}`**"
    row = mvp_row(
        context, 100, name=f"prune-{keep:g}", method="tool", title=title, vote=replace(GENERALIST, keep=keep), fit=TOOL,
        trials="ablations/generalist-rate" if is_default else "",
    )  # fmt: skip
    prunable = context.prunable
    return row, lambda: (prunable.base, cut(prunable, target_counts(prunable.table, keep, 8)))


def _magnitude(context: Context, method: str, keep: float) -> tuple[Row, Shape]:
    distilled = ", distilled from the base" if method == "magnitude-distill" else ""
    baseline, prunable = Magnitude(keep), context.prunable
    row = _row(
        context, method, f"base, magnitude-pruned to keep {keep:g}{distilled}", baseline, name=f"{method}-{keep:g}",
        keep=keep, dense_iterations=context.steps(100) * keep**2,
    )  # fmt: skip
    counts = target_counts(prunable.table, keep, baseline.channel_multiple)
    return row, lambda: (prunable.base, headless(cut_by_magnitude(prunable, counts)))


def _mobilenet(context: Context, pixels: int) -> tuple[Row, Shape]:
    row = _row(
        context, "mobilenetv2", f"timm `{ARCH}`, ImageNet weights, {pixels} px",
        OffTheShelf(partial(weights, context), pixels), name=f"mobilenetv2-{pixels}", keep=1.0, form="whole",
        hyper={"pixels": pixels},
    )  # fmt: skip

    def shape() -> tuple[Base, nn.Module]:
        base, network = load(weights(context), pixels)
        return base, headless(network)

    return row, shape


def _row(context: Context, method: str, title: str, train: Train, hyper: Mapping[str, Any] = {}, **fields: Any) -> Row:
    """Return a baseline, trained as the tool's own network is but for the rate."""
    fit = suited(context, method)
    own = {"warmup": fit.warmup, "distill": fit.distill, "head": "ridge", **hyper}
    own |= {"teacher": "base"} if fit.distill > 0 else {}
    return baseline_row(context, method, title, train, own, **fields)


def headless(model: nn.Module) -> nn.Module:
    """Give a network, in place, a new head for a few classes."""
    set_head(model, nn.Linear(head_of(model).in_features, WAYS))
    return model


EXPERIMENT = Experiment("baselines", "is it better than the baselines, at equal latency?", "ours", rows)
