"""What do INT8 and half precision cost and win? Specialists of a zoo, each on its own task's test images.

    python -m benchmarks precision --data DIR [--zoo DIR] [--members 20]

Each member is exported, then converted and judged as `mvp-edge prune --precision` does it; INT8 is calibrated on
training images of its task. Every (member, precision) is one record.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.command import Script
from benchmarks.measurements.edge_latency import export
from mvp_edge.config import Precision
from mvp_edge.data import ImageSet
from mvp_edge.prune.gate import Candidate
from mvp_edge.prune.precision import judge_precision, make_precision, scores_of
from mvp_edge.report.record import PrecisionRecord
from mvp_edge.timing.latency import Contender, time_in_turns

ROUNDS, SEED = 16, 0


def main(argv: Sequence[str]) -> None:
    """Measure and append records."""
    script = Script("precision", __doc__, "data", "zoo")
    script.add("--members", type=int, default=20)
    script.add("--precisions", default="int8,fp16")
    args = script.parse(argv)
    base = script.zoo.base
    for info in sorted((i for i in script.zoo.infos() if i.kind == "specialist"), key=lambda i: i.id)[: args.members]:
        model = script.zoo.load(info).network(script.prunable)
        train, test = (script.source.load(info.task.names, split, base.input_size) for split in ("train", "test"))
        with tempfile.TemporaryDirectory() as scratch:
            file = export(base, model, Path(scratch) / "model.onnx")
            for precision in args.precisions.split(","):
                variants = try_precisions(file, precision, train.images, test, SEED)
                config = {"member": info.id, "precision": precision, "base_sha256": base.sha256, "seed": SEED}
                script.record(config, {v.precision: v.to_json() for v in variants})


def try_precisions(
    file: Path, wanted: Precision, calibration: Tensor | None, images: ImageSet, seed: int
) -> tuple[PrecisionRecord, ...]:
    """Write `file` in the wanted precision beside it and measure both; a file that does not pass the gate is deleted.

    Args:
        file: As for `make_precision`.
        wanted: As there; a precision that was requested by name is kept in any case, with the reasons.
        calibration: As there.
        images: Images that were not trained on; they decide, and their accuracy is what is recorded.
        seed: As there.

    Returns:
        The float32 file first, then what was tried.

    Raises:
        ExportError: a precision that was requested by name cannot be made.
    """
    made = make_precision(file, wanted, calibration, seed)
    timings, scores = [], None
    if isinstance(made, Candidate):
        timings = time_in_turns([Contender(file), Contender(made.path)], rounds=ROUNDS)
        scores = scores_of(file, made.path, images)
    return judge_precision(file, wanted, made, timings, scores or 0, scores)
