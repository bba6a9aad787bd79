"""When a file in another precision is delivered: the accuracy and size gate. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from mvp_edge.config import Precision
from mvp_edge.report.record import LatencyRecord, PrecisionRecord
from mvp_edge.timing.latency import Timing

JUDGED_IMAGES = 25  # held out at least, to decide anything: of fewer, one image is more than four points
MAX_DROP = 1.0  # points of top-1
FASTER = 0.9  # of the time, or less
NOT_LARGER = 1.05  # of the bytes: a file whose weights lie in eight bits either way has a little more to say as INT8
SMALLER = 2 / 3  # of the bytes, or less
SAVED_BYTES = 100 * 1024
NOT_SLOWER = 1.1


@dataclass(frozen=True)
class Candidate:
    """A file in another precision that was not measured yet."""

    precision: Literal["int8", "fp16"]
    path: Path


@dataclass(frozen=True)
class Scores:
    """Accuracy of a float32 file and of the same network in another precision on the same images.

    Attributes:
        full: Percent of the float32 file.
        small: Percent of the other.
        n: Number of images.
    """

    full: float
    small: float
    n: int


@dataclass(frozen=True)
class Close:
    """Outputs of two files on random pictures, where there are no others to compare the accuracy on.

    Attributes:
        difference: The largest one between their logits; what writes the files has refused what is not nearly equal.
    """

    difference: float


Compared = Scores | Close | int
"""Accuracy on images held out of training, outputs in its place, or how many images there are, if they are too few."""


@dataclass(frozen=True)
class Verdict:
    """A decision with its two reasons: the change of accuracy, and that of time and size."""

    passed: bool
    reasons: tuple[str, str]


def judge(held_out: Compared, full_bytes: int, small_bytes: int, time_ratio: float) -> Verdict:
    """Decide whether a second file passes the accuracy and size gate.

    It does if both hold:

    - On at least `JUDGED_IMAGES` images held out of training, its top-1 is less than `MAX_DROP` points below that of
      the float32 file. Test images decide nothing.
    - It is faster (at most `FASTER` of the time and `NOT_LARGER` of the bytes), or smaller (at most `SMALLER` of the
      bytes and `SAVED_BYTES` less, at no more than `NOT_SLOWER` of the time).

    Where outputs were compared in place of an accuracy, because there are no such images, the second alone decides.

    Args:
        held_out: What tells the loss of accuracy.
        full_bytes: Of the float32 file.
        small_bytes: Of the candidate.
        time_ratio: Time of the candidate divided by that of the float32 file, from a paired measurement.

    Example:
        >>> judge(Scores(92.0, 91.8, 500), 425_000, 136_000, 0.8).passed
        True
    """
    accurate, first = _accuracy(held_out)
    byte_ratio, saved = small_bytes / full_bytes, full_bytes - small_bytes
    faster = time_ratio <= FASTER and byte_ratio <= NOT_LARGER
    smaller = byte_ratio <= SMALLER and saved >= SAVED_BYTES and time_ratio <= NOT_SLOWER
    second = f"{_times(time_ratio)} the time and {_times(byte_ratio)} the bytes of float32"
    if not (faster or smaller):
        second += (
            f"; needed: {_times(FASTER)} the time at no more than {_times(NOT_LARGER)} the bytes, or {_times(SMALLER)} "
            f"the bytes and {SAVED_BYTES // 1024} KiB less at no more than {_times(NOT_SLOWER)} the time"
        )
    return Verdict(accurate and (faster or smaller), (first, second))


def judge_candidate(
    made: Candidate | None,
    timings: Sequence[Timing],
    held_out: Compared,
    wanted: Precision,
    test: Scores | None = None,
) -> tuple[PrecisionRecord, ...]:
    """Return the records of a float32 file and of its candidate, which is deleted if it does not pass the gate.

    A candidate that was requested by name stays in any case, with the reasons.

    Args:
        made: The candidate, if there is one.
        timings: Of the float32 file and the candidate, which took turns.
        held_out: As for `judge`.
        wanted: The precision that was requested; `auto` requests none by name.
        test: Accuracy on test images, if there are any, for the record.
    """
    full = _measured("fp32", timings[0], None if test is None else test.full)
    if made is None:
        return (full,)
    first, second = timings
    paired = second.ratio_to(first)
    ratio = paired.median if paired else second.latency().median_ms / first.latency().median_ms
    full_bytes, small_bytes = (t.contender.path.stat().st_size for t in timings)
    verdict = judge(held_out, full_bytes, small_bytes, ratio)
    accuracy, cost = verdict.reasons
    if wanted == "auto" and _too_few(held_out) is not None:
        accuracy += f"; add images, or take it unchecked with --precision {made.precision}"
    small = msgspec.structs.replace(
        _measured(made.precision, second, None if test is None else test.small),
        kept=verdict.passed or wanted != "auto",
        passed=verdict.passed,
        reasons=(accuracy, cost),
        time_ratio=round(ratio, 4),
    )
    if not small.kept:
        made.path.unlink()
    return full, small


def latency_record(timing: Timing) -> LatencyRecord:
    """Return the latency of a file as the report holds it."""
    return LatencyRecord.from_json(timing.latency().to_json())


def failed_gate(files: Sequence[PrecisionRecord]) -> list[str]:
    """Return warnings about files that were requested by name and do not pass the gate."""
    return [
        f"{f.file} was requested, but does not pass the accuracy and size gate: {'; '.join(f.reasons)}"
        for f in files
        if f.kept and not f.passed
    ]


def _measured(precision: Literal["fp32", "int8", "fp16"], timing: Timing, top1: float | None) -> PrecisionRecord:
    file = timing.contender.path
    return PrecisionRecord(
        precision=precision, file=file.name, kept=True, passed=True, top1=None if top1 is None else round(top1, 2),
        bytes=file.stat().st_size, latency_ms=latency_record(timing), time_ratio=1.0,
    )  # fmt: skip


def _too_few(compared: Compared) -> int | None:
    """Return how many images there are, if they are too few to compare the accuracy; None if they are enough."""
    count = compared.n if isinstance(compared, Scores) else compared
    return count if isinstance(count, int) and count < JUDGED_IMAGES else None


def _accuracy(compared: Compared) -> tuple[bool, str]:
    if isinstance(compared, Close):
        return True, f"the accuracy was not compared; on random pictures its logits differ by {compared.difference:.2g}"
    few = _too_few(compared)
    if isinstance(compared, int) or few is not None:
        found = f"{few} images were held out of training at a time, as in cross-validation"
        found = found if few else "no images were held out of training"
        return False, f"{found}; at least {JUDGED_IMAGES} are needed to compare the accuracy"
    drop = round(compared.full - compared.small, 6)
    change = f"{drop:.2f} points lower" if drop > 0 else f"{-drop:.2f} points higher" if drop < 0 else "the same"
    reason = f"top-1 is {change} on {compared.n} images held out of training"
    if drop < MAX_DROP:
        return True, reason
    return False, f"{reason}; less than {MAX_DROP:g} is allowed"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times"
