from __future__ import annotations

import pytest

from mvp_edge.prune.precision import MAX_DROP, NOT_SLOWER, SAVED_BYTES, Figures, judge

FULL = Figures(92.0, 425_000, 0.23)


def test_faster_and_accurate_is_kept() -> None:
    verdict = judge(FULL, Figures(91.8, 420_000, 0.18), 0.8)
    assert verdict.earned
    assert verdict.reasons[0] == "top-1 is 0.20 points lower"
    assert verdict.reasons[1].startswith("0.80 times the time and 0.99 times the bytes")


@pytest.mark.parametrize(
    ("top1", "earned", "words"),
    [
        (92.0, True, "the same"),
        (93.5, True, "1.50 points higher"),
        (92 - MAX_DROP + 0.01, True, "0.99 points lower"),
        (92 - MAX_DROP, False, "less than 1 is allowed"),
        (80.0, False, "12.00 points lower"),
        (None, False, "unknown without real test images"),
    ],
)
def test_accuracy_decides(top1: float | None, earned: bool, words: str) -> None:
    verdict = judge(FULL, Figures(top1, 136_000, 0.18), 0.8)
    assert verdict.earned is earned
    assert words in verdict.reasons[0]


@pytest.mark.parametrize(
    ("size", "ratio", "earned"),
    [
        (425_000, 0.9, True),
        (425_000, 0.91, False),
        (425_001, 0.5, False),  # faster, but more bytes
        (136_000, NOT_SLOWER, True),  # smaller at the same time
        (136_000, NOT_SLOWER + 0.01, False),  # smaller, but slower
        (300_000, 1.0, False),  # not small enough
        (425_000 - SAVED_BYTES, 1.0, False),  # saves enough bytes, not enough of its own
    ],
)
def test_time_and_size_decide(size: int, ratio: float, earned: bool) -> None:
    verdict = judge(FULL, Figures(92.0, size, 0.2), ratio)
    assert verdict.earned is earned
    assert ("needed" in verdict.reasons[1]) is not earned


def test_a_few_kilobytes_are_not_worth_a_file() -> None:
    assert not judge(Figures(92.0, 90_000, 0.1), Figures(92.0, 30_000, 0.1), 1.0).earned
