from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mvp_edge.budget.meet import Bound, meet
from mvp_edge.budget.probe import Achieved
from tests.budget.synthetic import WIDTHS, chain, groups, worth

TRUTH = chain((4.0, 2.0, 1.0, 1.0))
LEAST, MOST = float(TRUTH(groups(1).least)), float(TRUTH(WIDTHS))


def measure(counts: np.ndarray) -> Achieved:
    return Achieved(float(TRUTH(counts)), int(counts.sum()), 1, 1)


@given(
    st.floats(1.3 * LEAST, 0.95 * MOST),
    st.floats(0.3, 3.0),
    st.tuples(*[st.floats(0.6, 1.6)] * 3),
    st.sampled_from(["uniform", "balanced"]),
)
def test_a_model_that_is_off_still_leads_to_the_budget(most: float, scale: float, off: tuple[float, ...], rule) -> None:
    model = chain((4.0 * off[0], 2.0 * off[1], 1.0 * off[2], 1.0))
    met = meet([Bound("latency_ms", most, lambda c: scale * model(c))], groups(1), worth(), measure, rule=rule)
    assert met is not None
    assert met.achieved.latency_ms <= most
    assert met.achieved.latency_ms >= 0.9 * most


def test_all_bounds_hold_and_the_tightest_is_used_up() -> None:
    bounds = [Bound("latency_ms", 0.5 * MOST, chain((5.0, 1.0, 1.0, 1.0))), Bound("macs", 50, lambda c: c.sum(-1))]
    met = meet(bounds, groups(1), worth(), measure, rule="uniform")
    assert met is not None
    assert met.achieved.macs == 50
    assert met.achieved.latency_ms < 0.5 * MOST


def test_the_first_seed_that_fits_is_where_it_starts() -> None:
    seeds = [WIDTHS, np.array([2, 30, 3]), np.array([1, 2, 3])]
    met = meet([Bound("latency_ms", 0.4 * MOST, TRUTH)], groups(1), worth(), measure, rule="uniform", seeds=seeds)
    assert met is not None
    assert met.counts[1] >= 30


def test_nothing_fits() -> None:
    assert meet([Bound("latency_ms", LEAST - 1, TRUTH)], groups(1), worth(), measure, rule="uniform") is None


def test_a_budget_for_everything_keeps_everything() -> None:
    met = meet([Bound("latency_ms", 2 * MOST, TRUTH)], groups(4), worth(), measure, rule="uniform")
    assert met is not None
    assert (met.counts == WIDTHS).all()
