"""Ours against what people pick instead, at equal latency: a network off the shelf, and a magnitude-pruned base.

    python -m benchmarks rivals --data DIR --folder mobilenetv2_100=FILE.safetensors

All are fine-tuned for the same 100 iterations of the same images. Rates of the rivals are those that `rates` has chosen
on held-out training images of other tasks, or the tool's own where it has no records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from benchmarks.baselines.magnitude import Magnitude, cut_by_magnitude
from benchmarks.baselines.off_the_shelf import ARCH, OffTheShelf, load
from benchmarks.experiments.rates import VARIANTS, Train, rival_row, suited, weights, weights_missing
from benchmarks.measurements.edge_latency import cut, export
from benchmarks.methods import DISTILLED
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import mvp_row
from benchmarks.suite.running import cases, try_once, try_rows, why_not
from benchmarks.suite.store import Line, in_common, mean_over, top1_by_task
from mvp_edge.config import VoteConfig
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import Base
from mvp_edge.models.macs import count_macs
from mvp_edge.pruners import target_counts
from mvp_edge.timing.latency import Contender, time_in_turns

NAME = "rivals"
TASKS = 20
WAYS = 5
KEEPS = (0.1, 0.2, 0.3)
PIXELS = (32, 64)
LATENCY = "latency"
ROUNDS = 20
Delivered = tuple[Base, nn.Module]


@dataclass(frozen=True)
class Entry:
    """A row, and a network of the shape that it delivers: latency does not depend on what the weights are."""

    row: Row
    shape: Callable[[], Delivered]


def entries(context: Context) -> list[Entry]:
    """Return the tool at several sizes and its rivals."""
    missing = why_not(context, "cifar100")
    return [
        *(_tool(context, keep, missing) for keep in KEEPS),
        _magnitude(context, "magnitude", KEEPS[0], missing),
        *(_magnitude(context, "magnitude-distill", keep, missing) for keep in KEEPS),
        *(_mobilenet(context, pixels, missing or weights_missing(context)) for pixels in PIXELS),
    ]


def rows(context: Context) -> list[Row]:
    """Return the row that times all networks in turns, and one for each of them."""
    found = entries(context)
    timed = [e.row.name for e in found if not e.row.missing]
    hyper = {"rows": timed, "rounds": ROUNDS, "threads": 1}
    clock = Row(
        LATENCY, LATENCY, "latency, all in turns", None, hyper=hyper, form="none",
        missing="" if timed else why_not(context, "cifar100"), seconds=60,
    )  # fmt: skip
    return [clock, *(e.row for e in found)]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Time what can be made here, then train what is missing."""
    if why_not(context, "cifar100"):
        return
    shapes = {e.row.name: e.shape for e in entries(context) if not e.row.missing}
    try_once(NAME, rows[0], context, context.zoo, lambda: {"notes": timed(shapes, ROUNDS)})
    try_rows(NAME, rows[1:], cases(context, TASKS))


def timed(shapes: Mapping[str, Callable[[], Delivered]], rounds: int) -> dict[str, float | None]:
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


def table(lines: Sequence[Line], trials: Sequence[Line]) -> list[str]:
    """Return accuracy beside what a network costs, the timed figures from the row of latencies."""
    notes = next((line.get("notes", {}) for line in lines if line["row"] == LATENCY), {})
    shown = {line["row"]: line for line in lines if line["row"] != LATENCY}
    top1 = {row: top1_by_task(trials, row) for row in shown}
    same = in_common(top1.values())
    head = (
        f"| five classes, 100 iterations | tasks | top-1 mean | sd | on the same {len(same)} | rate | ms "
        "| against the first | MMACs | KiB |"
    )
    rows = [_cells(line, mean_over(same, top1[row]), notes) for row, line in shown.items()]
    return [head, "|" + "---|" * (head.count("|") - 1), *rows]


def _cells(line: Line, there: str, notes: Mapping[str, float | None]) -> str:
    def shown(figure: str, form: str) -> str:
        value = notes.get(f"{line['row']}/{figure}")
        return "" if value is None else form.format(value)

    top1 = [f"{v:.2f}" if (v := line[k]) is not None else "" for k in ("top1_mean", "top1_sd")]
    cells = [
        line["title"], str(line["n_tasks"] or ""), top1[0] or line["status"], top1[1], there,
        f"{line['hyper']['lr']:g}", shown("ms", "{:.3f}"), shown("ratio", "{:.2f}x"), shown("mmacs", "{:.1f}"),
        shown("kib", "{:.0f}"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _tool(context: Context, keep: float, missing: str) -> Entry:
    title = f"**`mvp-edge prune{'' if keep == VoteConfig().keep else f' --keep {keep:g}'}`**"
    row = mvp_row(
        context, 100, name=f"tool-{keep:g}", method="tool", title=title, vote=VoteConfig(keep=keep), fit=DISTILLED,
        missing=missing,
    )  # fmt: skip
    prunable = context.prunable
    return Entry(row, lambda: (prunable.base, cut(prunable, target_counts(prunable.table, keep, 8))))


def _magnitude(context: Context, method: str, keep: float, missing: str) -> Entry:
    taught = ", taught by the base as the tool's is" if VARIANTS[method].fit.distill else ""
    rival, prunable = Magnitude(keep), context.prunable
    row = _row(
        context, method, f"{method}-{keep:g}", f"base, magnitude-pruned to keep {keep:g}{taught}", rival, missing,
        keep=keep, dense_iterations=context.steps(100) * keep**2,
    )  # fmt: skip

    def shape() -> Delivered:
        return prunable.base, _headed(
            cut_by_magnitude(prunable, target_counts(prunable.table, keep, rival.channel_multiple))
        )

    return Entry(row, shape)


def _mobilenet(context: Context, pixels: int, missing: str) -> Entry:
    file = weights(context) or Path()
    row = _row(
        context, "mobilenetv2", f"mobilenetv2-{pixels}", f"timm `{ARCH}`, ImageNet weights, {pixels} px",
        OffTheShelf(file, pixels), missing, keep=1.0, form="whole", hyper={"pixels": pixels},
    )  # fmt: skip

    def shape() -> Delivered:
        base, network = load(file, pixels)
        return base, _headed(network)

    return Entry(row, shape)


def _row(context: Context, method: str, name: str, title: str, train: Train, missing: str, **fields: Any) -> Row:
    """Return a rival, trained as the tool's own network is but for the rate, and for the teacher where it has none."""
    fit = suited(context, method)
    hyper = {"warmup": fit.warmup, "distill": fit.distill, "head": "ridge", **fields.pop("hyper", {})}
    if fit.distill > 0:
        hyper["teacher"] = "cascade"
    return rival_row(context, method, title, train, hyper, name=name, missing=missing, **fields)


def _headed(model: nn.Module) -> nn.Module:
    set_head(model, nn.Linear(head_of(model).in_features, WAYS))
    return model


EXPERIMENT = Experiment(
    NAME, "is it better than what people pick instead, at equal latency?", "ours", 60, rows, run, table=table
)
