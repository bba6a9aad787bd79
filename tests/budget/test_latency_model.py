from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mvp_edge.budget import Costs, Products, fit_latency
from mvp_edge.budget.latency_model import nonnegative_least_squares
from tests.budget.synthetic import WIDTHS, chain


def costs() -> Costs:
    work = chain((9.0, 9.0, 9.0, 1.0), 0.0)
    work = Products(work.weight[:4], work.fixed[:4], work.per_unit[:4])
    some = work.weighted(np.ones(4))
    kinds = ((64, False), (64, False), (16, False), (1, False))
    return Costs(("a", "b", "c"), WIDTHS, some, some, some, work, kinds, some)


@pytest.mark.parametrize("lane", [4, 8, 16, 32])
def test_speeds_and_lane_are_found_again(lane: int) -> None:
    truth = costs().work.padded(lane)
    speed = np.array([1e-3, 1e-3, 4e-3, 2e-3])
    draw = np.random.default_rng(0)
    counts = draw.integers(1, WIDTHS + 1, (40, 3))
    times = 0.05 + truth.weighted(truth.weight * speed)(counts)
    model = fit_latency(costs(), counts[:30], times[:30])
    assert model.lane == lane
    assert model.error < 1e-6
    assert model(counts[30:]) == pytest.approx(times[30:], rel=1e-6)
    assert float(model(counts[0])) == pytest.approx(times[0])


def test_noise_does_not_make_speeds_negative() -> None:
    draw = np.random.default_rng(1)
    counts = draw.integers(1, WIDTHS + 1, (12, 3))
    model = fit_latency(costs(), counts, draw.uniform(0.1, 5, 12))
    assert model.floor_ms >= 0
    assert all((part.weight >= 0).all() for part in model.parts)


def test_least_squares_without_negative_coefficients() -> None:
    a = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
    assert nonnegative_least_squares(a, a @ np.array([0.5, 2.0])) == pytest.approx([0.5, 2.0])
    assert nonnegative_least_squares(a, a @ np.array([3.0, -1.0]))[1] == 0
    assert (nonnegative_least_squares(a, -np.ones(3)) == 0).all()


def test_padding_leaves_lengths_that_no_group_covers() -> None:
    padded = replace(chain(), lane=8)
    assert padded(np.array([8, 8, 8])) == chain()(np.array([8, 8, 8]))
    assert padded(np.array([1, 8, 8])) == chain()(np.array([8, 8, 8]))
