"""Whether a file of lower precision earns its place beside the float32 one."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DROP = 1.0  # points of top-1
FASTER = 0.9  # of the time, or less
SMALLER = 2 / 3  # of the bytes, or less
SAVED_BYTES = 100 * 1024
NOT_SLOWER = 1.1


@dataclass(frozen=True)
class Figures:
    """What was measured of a file.

    Attributes:
        top1: Percent on real test images, or None where there are none.
        size_bytes: Of the file.
        median_ms: Latency of one image.
    """

    top1: float | None
    size_bytes: int
    median_ms: float


@dataclass(frozen=True)
class Verdict:
    """A decision with its two reasons: what it does to the accuracy, and to time and size."""

    earned: bool
    reasons: tuple[str, str]


def judge(full: Figures, small: Figures, time_ratio: float) -> Verdict:
    """Decide whether `small` is worth a second file.

    It is if both hold:

    - Its top-1 is less than `MAX_DROP` points below that of the float32 file, on the same test images. Where there are
      none, nobody knows, and it is not.
    - It is faster or smaller in a way that matters. Faster: at most `FASTER` of the time and no more bytes. Smaller: at
      most `SMALLER` of the bytes, and `SAVED_BYTES` less, at no more than `NOT_SLOWER` of the time. A few kilobytes
      are lost in any app, and a small model that is slower has missed its purpose.

    Args:
        full: The float32 file.
        small: The candidate.
        time_ratio: Time of the candidate by that of the float32 file, from a paired measurement.

    Example:
        >>> judge(Figures(92.0, 425_000, 0.23), Figures(91.8, 136_000, 0.18), 0.8).earned
        True
    """
    accurate, first = _accuracy(full.top1, small.top1)
    byte_ratio, saved = small.size_bytes / full.size_bytes, full.size_bytes - small.size_bytes
    faster = time_ratio <= FASTER and byte_ratio <= 1
    smaller = byte_ratio <= SMALLER and saved >= SAVED_BYTES and time_ratio <= NOT_SLOWER
    second = f"{_times(time_ratio)} the time and {_times(byte_ratio)} the bytes of float32"
    if not (faster or smaller):
        second += (
            f"; needed: {_times(FASTER)} the time, or {_times(SMALLER)} the bytes and {SAVED_BYTES // 1024} KiB less "
            f"at no more than {_times(NOT_SLOWER)} the time"
        )
    return Verdict(accurate and (faster or smaller), (first, second))


def _accuracy(full: float | None, small: float | None) -> tuple[bool, str]:
    if full is None or small is None:
        return False, "accuracy is unknown without real test images"
    drop = round(full - small, 6)
    change = f"{drop:.2f} points lower" if drop > 0 else f"{-drop:.2f} points higher" if drop < 0 else "the same"
    if drop < MAX_DROP:
        return True, f"top-1 is {change}"
    return False, f"top-1 is {change}; less than {MAX_DROP:g} is allowed"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times"
