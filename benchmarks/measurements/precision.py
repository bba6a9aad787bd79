"""What do INT8 and half precision cost and win? Specialists of a zoo, each on its own task's test images.

    python -m benchmarks precision --data DIR [--zoo DIR] [--members 20]

Each member is exported, then converted and judged as `mvp-edge prune --precision` does it; INT8 is calibrated on
training images of its task. Every (member, precision) is one record.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks import records
from mvp_edge.data import open_source
from mvp_edge.export import export_onnx
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.prune.precision import try_precisions
from mvp_edge.zoo.store import open_zoo

SEED = 0


def main() -> None:
    """Measure and append records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--precisions", default="int8,fp16")
    args = parser.parse_args()
    zoo, source = open_zoo(args.zoo), open_source(args.data)
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    base = prunable.base
    infos = sorted((i for i in zoo.infos() if i.kind == "specialist"), key=lambda i: i.id)[: args.members]
    for info in infos:
        model = zoo.load(info).network(prunable)
        train, test = (source.load(info.task.names, split, base.input_size) for split in ("train", "test"))
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "model.onnx"
            export_onnx(
                model, file, input_size=base.input_size, mean=base.mean, std=base.std, labels=info.task.names,
                metadata={},
            )  # fmt: skip
            for precision in args.precisions.split(","):
                variants = try_precisions(file, precision, train.images, test, SEED)
                config = {"member": info.id, "precision": precision, "base_sha256": base.sha256, "seed": SEED}
                result: dict[str, Any] = {v.precision: v.to_json() for v in variants}
                records.append("precision", config, result, torch.device("cpu"))


if __name__ == "__main__":
    main()
