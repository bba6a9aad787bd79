from __future__ import annotations

import numpy as np
import pytest

from mvp_edge.budget.free_lanes import fill_free_lanes

WIDTHS = np.array([64, 64, 128])
ONE = np.ones(3, int)


def padded(lane: int, counts: np.ndarray) -> float:
    return float((np.ceil(counts / lane) * lane).sum())


@pytest.mark.parametrize(("lane", "filled"), [(4, [8, 8, 16]), (8, [8, 8, 16]), (16, [16, 16, 16]), (32, [32, 32, 32])])
def test_what_is_padded_anyway_is_filled(lane: int, filled: list[int]) -> None:
    counts = fill_free_lanes(np.array([6, 7, 13]), WIDTHS, ONE, lambda c: padded(lane, c), lambda c: True)
    assert counts.tolist() == filled


def test_what_costs_time_is_left() -> None:
    start = np.array([6, 7, 13])
    assert (fill_free_lanes(start, WIDTHS, ONE, lambda c: float(c.sum()), lambda c: True) == start).all()


def test_groups_of_a_width_are_filled_where_not_all_can_be() -> None:
    def time_ms(counts: np.ndarray) -> float:
        return float(counts[:2].sum() + np.ceil(counts[2] / 32) * 32)

    assert fill_free_lanes(np.array([6, 7, 13]), WIDTHS, ONE, time_ms, lambda c: True).tolist() == [6, 7, 32]


def test_what_a_faster_lane_gains_is_not_spent_on_further_ones() -> None:
    def time_ms(counts: np.ndarray) -> float:
        return float(counts.sum()) * (1.5 if (counts % 8).any() else 1.0)

    assert fill_free_lanes(np.array([6, 7, 13]), WIDTHS, ONE, time_ms, lambda c: True).tolist() == [8, 8, 16]


def test_other_limits_hold() -> None:
    counts = fill_free_lanes(np.array([6, 7, 13]), WIDTHS, ONE, lambda c: 1.0, lambda c: c.sum() <= 40)
    assert counts.tolist() == [8, 8, 16]


def test_units_of_many_channels_and_specialist_groups() -> None:
    counts = fill_free_lanes(np.array([1, 60, 3]), WIDTHS, np.array([16, 1, 4]), lambda c: 1.0, lambda c: True)
    assert counts.tolist() == [2, 64, 8]


def test_many_widths_are_filled_together_only() -> None:
    widths = np.arange(10) * 8 + 64
    tried = []

    def time_ms(counts: np.ndarray) -> float:
        tried.append(counts)
        return float(counts.sum())

    fill_free_lanes(np.full(10, 6), widths, np.ones(10, int), time_ms, lambda c: True)
    assert len(tried) == 1 + 4
