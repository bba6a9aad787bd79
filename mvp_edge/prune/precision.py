"""The delivered model in other precisions; a file is kept if it passes the accuracy and size gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mvp_edge.config import Precision
from mvp_edge.core.errors import ExportError
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.export.precision import CALIBRATION_IMAGES, convert_fp16, quantise_int8
from mvp_edge.prune.accuracy import predict_file
from mvp_edge.prune.fit import Unseen
from mvp_edge.prune.gate import JUDGED_IMAGES, Candidate, Scores, judge_candidate
from mvp_edge.report.record import PrecisionRecord
from mvp_edge.timing.latency import Timing
from mvp_edge.training.loop import accuracy


def scores_of(full: Path, small: Path, images: ImageSet) -> Scores:
    """Return the accuracy of two files on the same images."""
    first, second = (accuracy(predict_file(file, images), images).top1 for file in (full, small))
    return Scores(first, second, len(images))


def make_precision(
    file: Path, wanted: Precision, calibration: Tensor | None, seed: int
) -> Candidate | PrecisionRecord | None:
    """Write `file` in the wanted precision beside it.

    Args:
        file: The float32 file, `model.onnx`; others are called `model-int8.onnx` and `model-fp16.onnx`.
        wanted: `auto` tries INT8.
        calibration: uint8 RGB training images `(N, 3, H, W)`. None: no INT8 file can be made.
        seed: Seed of the sample of calibration images.

    Returns:
        The file, or a record with the reason why there is none; None if nothing is wanted.

    Raises:
        ExportError: a precision that was requested by name cannot be made.
    """
    if wanted == "fp32":
        return None
    precision = "int8" if wanted == "auto" else wanted
    target = file.with_name(f"{file.stem}-{precision}.onnx")
    try:
        if precision == "fp16":
            convert_fp16(file, target)
        else:
            if calibration is None or len(calibration) == 0:
                raise ExportError("INT8 needs images to calibrate with; give some with --data")
            order = rng(seed, "calibration").permutation(len(calibration))[:CALIBRATION_IMAGES]
            quantise_int8(file, target, calibration[torch.from_numpy(order)].numpy())
    except ExportError as e:
        if wanted != "auto":
            raise
        return PrecisionRecord(precision=precision, file=target.name, kept=False, passed=False, reasons=(str(e),))
    return Candidate(precision, target)


def compare(
    file: Path,
    wanted: Precision,
    made: Candidate | PrecisionRecord | None,
    timings: Sequence[Timing],
    unseen: Unseen | None,
    test: ImageSet | None,
    write: Callable[[Mapping[str, Tensor]], Path],
    seed: int,
) -> tuple[PrecisionRecord, ...]:
    """Compare as `judge_precision` does, by images that the network has not learned from.

    Args:
        file: As for `judge_precision`.
        wanted: As there.
        made: As there.
        timings: As there.
        unseen: These images. Where the delivered network has learned from them, one that has not stands in for it, and
            is converted in the same way.
        test: Images that decide nothing.
        write: Writes the network with other tensors, and returns its file.
        seed: As for `make_precision`.

    Raises:
        ExportError: the network that stands in cannot be written.
    """  # fmt: skip
    held_out: Scores | int = 0
    told = None
    if isinstance(made, Candidate):
        found = _held_out(file, made, wanted, unseen, write, seed)
        if isinstance(found, PrecisionRecord):
            made.path.unlink()
            return judge_precision(file, wanted, found, timings, 0, None)
        held_out = found
        told = None if test is None else scores_of(file, made.path, test)
    return judge_precision(file, wanted, made, timings, held_out, told)


def _held_out(
    file: Path, made: Candidate, wanted: Precision, unseen: Unseen | None,
    write: Callable[[Mapping[str, Tensor]], Path], seed: int,
) -> Scores | PrecisionRecord | int:  # fmt: skip
    """Return the accuracy of a file and its candidate on images held out, or how many these are if too few.

    Where the network that stands in cannot be converted, it is a record with the reason.
    """
    if unseen is None or len(unseen.images) < JUDGED_IMAGES:
        return 0 if unseen is None else len(unseen.images)
    if unseen.state is None:
        return scores_of(file, made.path, unseen.images)
    stand_in = write(unseen.state)
    converted = make_precision(stand_in, wanted, unseen.trained.images, seed)
    return scores_of(stand_in, converted.path, unseen.images) if isinstance(converted, Candidate) else converted or 0


def judge_precision(
    file: Path,
    wanted: Precision,
    made: Candidate | PrecisionRecord | None,
    timings: Sequence[Timing],
    held_out: Scores | int,
    test: Scores | None,
) -> tuple[PrecisionRecord, ...]:
    """Compare the result of `make_precision` with the float32 file, and delete it if it does not pass the gate.

    Args:
        file: The float32 file.
        wanted: As for `make_precision`.
        made: Result of `make_precision`.
        timings: As for `judge_candidate`; ignored if there is no candidate.
        held_out: As there.
        test: As there.

    Returns:
        The float32 file first, then what was tried.
    """
    if isinstance(made, Candidate):
        return judge_candidate(made, timings, held_out, wanted, test)
    full = PrecisionRecord(precision="fp32", file=file.name, kept=True, passed=True)
    return (full,) if made is None else (full, made)
