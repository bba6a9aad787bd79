"""The delivered model in other precisions: make them, measure them against the float32 file, keep what earns it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvp_edge.config import Precision
from mvp_edge.core.errors import ExportError
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.export import OnnxClassifier
from mvp_edge.export.precision import CALIBRATION_IMAGES, convert_fp16, quantise_int8
from mvp_edge.prune.precision import Figures, judge
from mvp_edge.timing.latency import Contender, Latency, Timing, time_in_turns
from mvp_edge.training.loop import accuracy

ROUNDS = 16


@dataclass(frozen=True)
class Made:
    """A file in another precision that was not measured yet."""

    precision: str
    path: Path


@dataclass(frozen=True)
class Variant:
    """One file of the model, or why there is none.

    Attributes:
        precision: `fp32`, `int8` or `fp16`.
        file: Name of the file.
        kept: Whether it is delivered: it earned its place, or was asked for by name.
        earned: Whether it would be delivered by itself.
        reasons: Why, or why not.
        top1: Percent on the test images, measured with this file; None if unknown.
        size_bytes: Of the file; None if it could not be made.
        latency: Of one image; None if it could not be made.
        time_ratio: Its time by that of float32, paired.
    """

    precision: str
    file: str
    kept: bool
    earned: bool
    reasons: tuple[str, ...] = ()
    top1: float | None = None
    size_bytes: int | None = None
    latency: Latency | None = None
    time_ratio: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value; what was not measured is null."""
        return {
            "precision": self.precision,
            "file": self.file,
            "kept": self.kept,
            "earned": self.earned,
            "reasons": list(self.reasons),
            "top1": None if self.top1 is None else round(self.top1, 2),
            "bytes": self.size_bytes,
            "latency_ms": None if self.latency is None else self.latency.to_json(),
            "time_ratio": None if self.time_ratio is None else round(self.time_ratio, 4),
        }


def try_precisions(
    file: Path, wanted: Precision, calibration: Tensor | None, test: ImageSet | None, seed: int, *, threads: int = 1
) -> list[Variant]:
    """Write `file` in the wanted precision beside it and measure both; a file that does not earn its place is deleted.

    A precision that was asked for by name stays in any case, and its reasons say what it is worth.

    Args:
        file: The float32 file, `model.onnx`; others are called `model-int8.onnx` and `model-fp16.onnx`.
        wanted: `auto` tries INT8 where there are test images to judge it by.
        calibration: uint8 RGB `(N, 3, H, W)` such as the model will see: training images. None: no INT8
            file can be made.
        test: Real images that nothing was trained on, if there are any.
        seed: Of the sample of calibration images.
        threads: For the accuracy; latency is that of one thread.

    Returns:
        The float32 file first, then what was tried.

    Raises:
        ExportError: a precision that was asked for by name cannot be made.
    """
    made = make_variant(file, wanted, calibration, test, seed)
    timings = time_in_turns([Contender(file), Contender(made.path)], rounds=ROUNDS) if isinstance(made, Made) else []
    return judge_variant(file, wanted, made, timings, test, threads=threads)


def make_variant(
    file: Path, wanted: Precision, calibration: Tensor | None, test: ImageSet | None, seed: int
) -> Made | Variant | None:
    """Write `file` in the wanted precision beside it; arguments as for `try_precisions`.

    Returns:
        What was made, or a variant that says why nothing was; None if nothing is wanted.

    Raises:
        ExportError: a precision that was asked for by name cannot be made.
    """
    if wanted == "fp32":
        return None
    precision = "int8" if wanted == "auto" else wanted
    target = file.with_name(f"{file.stem}-{precision}.onnx")
    try:
        if precision == "int8" and (calibration is None or len(calibration) == 0):
            raise ExportError("INT8 needs images to calibrate with; give some with --data")
        _make(file, target, precision, calibration, seed)
    except ExportError as e:
        if wanted != "auto":
            raise
        return Variant(precision, target.name, kept=False, earned=False, reasons=(str(e),))
    return Made(precision, target)


def judge_variant(
    file: Path,
    wanted: Precision,
    made: Made | Variant | None,
    timings: Sequence[Timing],
    test: ImageSet | None,
    *,
    threads: int = 1,
) -> list[Variant]:
    """Measure what `make_variant` has made against the float32 file, and delete it if it does not earn its place.

    Args:
        file: The float32 file.
        wanted: As for `try_precisions`, whose result this returns.
        made: What `make_variant` returned.
        timings: Of the float32 file and of what was made, which took turns; not looked at if nothing was made.
        test: Real images that nothing was trained on, if there are any.
        threads: For the accuracy.
    """
    first = Variant("fp32", file.name, kept=True, earned=True)
    if not isinstance(made, Made):
        return [first] if made is None else [first, made]
    full, small = timings
    scores = [_top1(path, test, threads) for path in (file, made.path)]
    figures = [
        Figures(score, t.contender.path.stat().st_size, t.latency().median_ms)
        for score, t in zip(scores, (full, small), strict=True)
    ]
    paired = small.ratio_to(full)
    ratio = paired.median if paired else figures[1].median_ms / figures[0].median_ms
    verdict = judge(figures[0], figures[1], ratio)
    kept = verdict.earned or wanted != "auto"
    if not kept:
        made.path.unlink()
    other = Variant(made.precision, made.path.name, kept, verdict.earned, verdict.reasons)
    return [_measured(first, figures[0], full, 1.0), _measured(other, figures[1], small, ratio)]


def notes(variants: Sequence[Variant]) -> list[str]:
    """Return warnings about files that were asked for by name and would not have been kept otherwise."""
    return [
        f"{v.file} was asked for, but does not earn its place: {'; '.join(v.reasons)}"
        for v in variants
        if v.kept and not v.earned
    ]


def _make(file: Path, target: Path, precision: str, calibration: Tensor | None, seed: int) -> None:
    if precision == "fp16":
        convert_fp16(file, target)
        return
    if calibration is None:
        raise ValueError("INT8 needs images to calibrate with")
    order = rng(seed, "calibration").permutation(len(calibration))[:CALIBRATION_IMAGES]
    quantise_int8(file, target, calibration[torch.from_numpy(order)].numpy())


def _top1(path: Path, test: ImageSet | None, threads: int) -> float | None:
    if test is None:
        return None
    return accuracy(torch.as_tensor(OnnxClassifier(path, threads).predict(test.images.numpy())), test).top1


def _measured(variant: Variant, figures: Figures, timing: Timing, ratio: float) -> Variant:
    return replace(
        variant, top1=figures.top1, size_bytes=figures.size_bytes, latency=timing.latency(), time_ratio=ratio
    )
