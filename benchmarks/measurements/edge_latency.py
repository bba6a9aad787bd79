"""How much faster is a network of a tenth of the units, what do channel multiples and INT8 add, and what bounds it?

    python -m benchmarks edge-latency [--zoo DIR | --base NAME|FILE [--embedding pruned]] [--rounds 20]

The whole base, and networks cut from it by the base's own importance, take turns in blocks of 20 calls on one thread.
Latency does not depend on what the weights are, so nothing is trained. `floor` keeps one unit in every group: what the
runtime takes for so many operators that have next to nothing to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from benchmarks.command import Script
from mvp_edge.config import InputFormat
from mvp_edge.export import export_onnx, take_inventory, verify_onnx
from mvp_edge.export.precision import CALIBRATION_IMAGES, quantise_int8
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import Base, load_base
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.pruners import base_importance, target_counts, top_plan
from mvp_edge.timing.latency import Contender, Timing, time_in_turns
from mvp_edge.timing.profiling import profile_model

CLASSES = 5
KEEP = 0.1
PAIRS = (
    ("dense", "aligned"), ("dense", "unaligned"), ("dense", "int8"), ("dense", "floor"), ("unaligned", "aligned"),
    ("aligned", "int8"), ("aligned", "bytes_in"),
)  # fmt: skip


def main(argv: Sequence[str]) -> None:
    """Cut, export, time, and append a record."""
    script = Script("edge-latency", __doc__, "zoo")
    script.add("--base", help="a file or another name of a base, instead of a zoo's base")
    script.add("--embedding", choices=("whole", "pruned"), default="whole", help="of --base, a transformer")
    script.add("--rounds", type=int, default=20)
    args = script.parse(argv)
    prunable = script.prunable if args.base is None else opened(args.base, args.embedding)
    base, table = prunable.base, prunable.table
    counts = {
        "aligned": target_counts(table, KEEP, 8),
        "unaligned": target_counts(table, KEEP, 1),
        "floor": {g.name: 1 for g in table.groups},
    }
    networks = {"dense": prunable.model.eval()} | {name: cut(prunable, c) for name, c in counts.items()}
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: export(base, model, Path(scratch) / f"{name}.onnx") for name, model in networks.items()}
        files["bytes_in"] = export(base, networks["aligned"], Path(scratch) / "bytes.onnx", "uint8-nhwc")
        files["int8"] = Path(scratch) / "int8.onnx"
        pixels = np.random.default_rng(0).integers(0, 256, (CALIBRATION_IMAGES, 3, *base.input_size), dtype=np.uint8)
        quantise_int8(files["aligned"], files["int8"], pixels)
        contenders = [Contender(f) for f in files.values()]
        timings = dict(zip(files, time_in_turns(contenders, args.rounds, budget_s=float("inf")), strict=True))
        result = {
            "models": {name: figures(timings[name], networks.get(name), prunable) for name in files},
            "profile": [asdict(node) for node in profile_model(files["aligned"]).nodes],
            "ratios": {f"{slow}/{fast}": ratio(timings[slow], timings[fast]) for slow, fast in PAIRS},
        }
    script.record(
        {
            "base": base.name, "embedding": base.embedding, "keep": KEEP, "rounds": args.rounds,
            "widths": {name: sorted(set(c.values())) for name, c in counts.items()},
        },
        result,
    )  # fmt: skip


def opened(name: str, embedding: Literal["whole", "pruned"]) -> PrunableModel:
    """Return a base model by its name or file."""
    base, model = load_base(name)
    return PrunableModel.of(replace(base, embedding=embedding), model)


def cut(prunable: PrunableModel, counts: dict[str, int]) -> nn.Module:
    """Return the base model sliced to its most important units, with a head for a few classes."""
    plan = top_plan(prunable.table, base_importance(prunable.model, prunable.table), counts)
    model = sliced_copy(prunable.model, prunable.table, plan)
    set_head(model, nn.Linear(head_of(model).in_features, CLASSES))
    return model.eval()


def export(
    base: Base, model: nn.Module, path: Path, kind: InputFormat = "float32-nchw", outputs: int | None = None
) -> Path:
    """Write a network, verified; the number of its outputs is that of its head unless it is not one of timm's."""
    labels = [str(i) for i in range(outputs or head_of(model).out_features)]
    export_onnx(
        model, path, input_size=base.input_size, mean=base.mean, std=base.std, labels=labels, metadata={},
        input_format=kind,
    )  # fmt: skip
    verify_onnx(path, model, base.input_size, base.mean, base.std)
    return path


def figures(timing: Timing, model: nn.Module | None, prunable: PrunableModel) -> dict[str, object]:
    """Return what is recorded of one file."""
    latency, stored = timing.latency(), take_inventory(timing.contender.path)
    return {
        "latency_ms": latency.to_json(),
        "clock": latency.clock,
        "waited": round(latency.waited, 3),
        "runs": latency.runs,
        "file_bytes": stored.file_bytes,
        "parameter_bytes": stored.parameter_bytes,
        "params": None if model is None else count_params(model),
        "macs": None if model is None else count_macs(model, prunable.base.input_size),
        "operators": stored.operators,
    }


def ratio(slow: Timing, fast: Timing) -> dict[str, float] | None:
    """Return how many times faster, paired by rounds, with the quartiles."""
    paired = slow.ratio_to(fast)
    if paired is None or paired.quartiles is None:
        return None
    low, high = paired.quartiles
    return {"median": round(paired.median, 3), "low": round(low, 3), "high": round(high, 3)}
