from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mvp_edge.budget.meet import Bound, fit_budget
from mvp_edge.budget.probe import Achieved
from tests.budget.synthetic import WIDTHS, chain, groups, utility

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
    fitted = fit_budget(
        [Bound("latency_ms", most, lambda c: scale * model(c))], groups(1), utility(), measure, rule=rule
    )
    assert fitted is not None
    assert fitted.achieved.latency_ms <= most
    assert fitted.achieved.latency_ms >= 0.9 * most


def test_all_bounds_hold_and_the_tightest_is_used_up() -> None:
    bounds = [Bound("latency_ms", 0.5 * MOST, chain((5.0, 1.0, 1.0, 1.0))), Bound("macs", 50, lambda c: c.sum(-1))]
    fitted = fit_budget(bounds, groups(1), utility(), measure, rule="uniform")
    assert fitted is not None
    assert fitted.achieved.macs == 50
    assert fitted.achieved.latency_ms < 0.5 * MOST


def test_the_first_seed_that_fits_is_where_it_starts() -> None:
    initial = [WIDTHS, np.array([2, 30, 3]), np.array([1, 2, 3])]
    fitted = fit_budget(
        [Bound("latency_ms", 0.4 * MOST, TRUTH)], groups(1), utility(), measure, rule="uniform", initial=initial
    )
    assert fitted is not None
    assert fitted.counts[1] >= 30


def test_nothing_fits() -> None:
    assert fit_budget([Bound("latency_ms", LEAST - 1, TRUTH)], groups(1), utility(), measure, rule="uniform") is None


def test_a_budget_for_everything_keeps_everything() -> None:
    fitted = fit_budget([Bound("latency_ms", 2 * MOST, TRUTH)], groups(4), utility(), measure, rule="uniform")
    assert fitted is not None
    assert (fitted.counts == WIDTHS).all()
