"""How much faster is a network of a tenth of the units, what do whole lanes and INT8 add, and what bounds it?

    python -m benchmarks edge-latency [--zoo DIR | --base NAME|FILE [--embedding pruned]] [--rounds 20]

The whole base, and networks cut from it by the base's own importance, take turns in blocks of 20 calls on one thread.
Latency does not depend on what the weights are, so nothing is trained. `floor` keeps one unit in every group: what the
runtime takes for so many operators that have next to nothing to do.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import records
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
from mvp_edge.zoo.store import open_zoo

CLASSES = 5
KEEP = 0.1
PAIRS = (
    ("dense", "aligned"),
    ("dense", "unaligned"),
    ("dense", "int8"),
    ("dense", "floor"),
    ("unaligned", "aligned"),
    ("aligned", "int8"),
    ("aligned", "bytes_in"),
)


def main() -> None:
    """Cut, export, time, and append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo")
    parser.add_argument("--base", help="a registered name or a file, instead of a zoo's base")
    parser.add_argument("--embedding", choices=("whole", "pruned"), default="whole", help="of --base, a transformer")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    prunable = opened(args)
    widths = {g.name: g.width for g in prunable.table.groups}
    counts = {
        "aligned": target_counts(prunable.table, KEEP, 8),
        "unaligned": target_counts(prunable.table, KEEP, 1),
        "floor": dict.fromkeys(widths, 1),
    }
    networks = {"dense": prunable.model.eval()} | {name: cut(prunable, c) for name, c in counts.items()}
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: export(prunable.base, model, Path(scratch) / f"{name}.onnx") for name, model in networks.items()}
        files["bytes_in"] = export(prunable.base, networks["aligned"], Path(scratch) / "bytes.onnx", "uint8-nhwc")
        files["int8"] = Path(scratch) / "int8.onnx"
        pixels = np.random.default_rng(0).integers(
            0, 256, (CALIBRATION_IMAGES, 3, *prunable.base.input_size), dtype=np.uint8
        )
        quantise_int8(files["aligned"], files["int8"], pixels)
        timings = dict(
            zip(
                files,
                time_in_turns([Contender(f) for f in files.values()], args.rounds, budget_s=float("inf")),
                strict=True,
            )
        )
        result = {
            "models": {name: figures(timings[name], networks.get(name), prunable) for name in files},
            "profile": [asdict(node) for node in profile_model(files["aligned"]).nodes],
            "ratios": {f"{slow}/{fast}": ratio(timings[slow], timings[fast]) for slow, fast in PAIRS},
        }
    config = {
        "base": prunable.base.name,
        "embedding": prunable.base.embedding,
        "keep": KEEP,
        "rounds": args.rounds,
        "widths": {name: sorted(set(c.values())) for name, c in counts.items()},
    }
    records.append("edge-latency", config, result, torch.device("cpu"))


def opened(args: argparse.Namespace) -> PrunableModel:
    """Return the base that is asked for."""
    if args.base is None:
        zoo = open_zoo(args.zoo)
        return PrunableModel.of(zoo.base, zoo.load_base())
    base, model = load_base(args.base)
    return PrunableModel.of(replace(base, embedding=args.embedding), model)


def cut(prunable: PrunableModel, counts: dict[str, int]) -> nn.Module:
    """Return the base model sliced to its most important units, with a head for a few classes."""
    plan = top_plan(prunable.table, base_importance(prunable.model, prunable.table), counts)
    model = sliced_copy(prunable.model, prunable.table, plan)
    set_head(model, nn.Linear(head_of(model).in_features, CLASSES))
    return model.eval()


def export(base: Base, model: nn.Module, path: Path, kind: str = "float32-nchw") -> Path:
    """Write a network, verified."""
    outputs = head_of(model).out_features
    labels = [str(i) for i in range(outputs)]
    export_onnx(
        model, path, input_size=base.input_size, mean=base.mean, std=base.std, labels=labels, metadata={},
        input_format=kind,  # pyright: ignore[reportArgumentType]
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
    return paired and {"median": round(paired.median, 3), "low": round(paired.low, 3), "high": round(paired.high, 3)}


if __name__ == "__main__":
    main()
