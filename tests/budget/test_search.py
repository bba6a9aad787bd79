from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp_edge.budget.costs import Achieved, Products
from mvp_edge.budget.search import Bound, Groups, Limit, Rule, Utility, fit_budget, search
from tests.budget.synthetic import WIDTHS, chain, groups, limit, utility

RULES = st.sampled_from(["uniform", "global"])
LEAST, MOST = float(chain()(groups().least)), float(chain()(WIDTHS))
bounds = st.floats(LEAST, 1.1 * MOST)


def found(bound: float, rule: Rule, channel_multiple: int = 4, cost: Products | None = None) -> np.ndarray:
    counts = search(groups(channel_multiple), utility(), [limit(bound, cost)], rule)
    assert counts is not None
    return counts


@given(bounds, RULES, st.sampled_from([1, 4, 8]))
def test_no_limit_is_ever_exceeded(bound: float, rule: Rule, channel_multiple: int) -> None:
    counts = search(groups(channel_multiple), utility(), [limit(bound), Limit(lambda c: c.sum(-1), 80)], rule)
    if counts is None:
        assert chain()(groups(channel_multiple).least) > bound
        return
    assert chain()(counts) <= bound * (1 + 1e-9)
    assert counts.sum() <= 80
    assert ((counts % channel_multiple == 0) | (counts == WIDTHS)).all()


@given(bounds, RULES)
def test_no_further_step_fits(bound: float, rule: Rule) -> None:
    counts = found(bound, rule)
    for g in range(3):
        if counts[g] < WIDTHS[g]:
            more = counts.copy()
            more[g] += 4
            assert chain()(more) > bound


@given(bounds, bounds)
def test_a_larger_budget_is_never_used_for_less(one: float, other: float) -> None:
    """Rising bounds follow one path until a step does not fit; what is spent then differs by less than that step."""
    low, high = sorted((one, other))
    step = max(
        float(chain()(found(low, "uniform") + d)) - float(chain()(found(low, "uniform")))
        for d in 4 * np.eye(3, dtype=int)
    )
    assert chain()(found(high, "uniform")) >= chain()(found(low, "uniform")) - step


@given(st.floats(1.05, 1.0 * MOST / LEAST))
def test_single_units_come_close_to_the_bound(factor: float) -> None:
    bound = LEAST * factor
    used = float(chain()(found(bound, "uniform", channel_multiple=1)))
    assert used > bound - max(chain().weight) * 64  # the dearest unit meets at most 64 others


def test_room_for_all_keeps_all() -> None:
    for rule in ("uniform", "global"):
        assert (found(MOST, rule) == WIDTHS).all()


def test_uniform_keeps_the_same_fraction_of_every_group() -> None:
    shares = found(0.3 * MOST, "uniform", channel_multiple=1) / WIDTHS
    assert shares.max() - shares.min() <= 1 / 16 + 1e-9


def test_global_takes_the_units_that_score_highest_wherever_they_are() -> None:
    scores = [np.linspace(0, 0.5, 16), np.r_[np.ones(20), np.zeros(12)], np.full(64, 0.1)]
    counts = search(groups(1), Utility.of(scores), [Limit(lambda c: c.sum(-1), 30)], "global")
    assert counts is not None
    assert counts.tolist() == [9, 20, 1]  # the smallest network has one unit of each group


def test_a_climb_goes_on_from_its_start() -> None:
    start = np.array([4, 8, 32])
    counts = search(groups(), utility(), [limit(MOST)], "uniform", start)
    assert counts is not None and (counts >= start).all()
    assert search(groups(), utility(), [limit(LEAST)], "uniform", start) is None


def test_multiples_of_units_that_stand_for_many_channels() -> None:
    assert Groups.of(WIDTHS, np.array([1, 4, 16]), 8).multiples.tolist() == [8, 2, 1]


def test_wide_groups_are_climbed_in_strides() -> None:
    calls = 0

    def cost(counts: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return counts.sum(-1)

    wide = Groups(np.array([4096, 4096]), np.array([1, 1]))
    counts = search(wide, Utility.of([np.ones(4096)] * 2), [Limit(cost, 5001)], "uniform")
    assert counts is not None and counts.sum() == 5001
    assert calls < 500


@pytest.mark.parametrize("bound", [LEAST - 1, 0.5])
def test_nothing_fits(bound: float) -> None:
    assert search(groups(), utility(), [limit(bound)], "uniform") is None


TRUTH = chain((4.0, 2.0, 1.0, 1.0))
SMALLEST = float(TRUTH(groups(1).least))


def measure(counts: np.ndarray) -> Achieved:
    return Achieved(float(TRUTH(counts)), int(counts.sum()), 1, 1)


@given(
    st.floats(1.3 * SMALLEST, 0.95 * MOST),
    st.floats(0.3, 3.0),
    st.tuples(*[st.floats(0.6, 1.6)] * 3),
)
def test_a_model_that_is_off_still_leads_to_the_budget(most: float, scale: float, off: tuple[float, ...]) -> None:
    model = chain((4.0 * off[0], 2.0 * off[1], 1.0 * off[2], 1.0))
    fitted = fit_budget(
        [Bound("latency_ms", most, lambda c: scale * model(c))], groups(1), utility(), measure, rule="uniform"
    )
    assert fitted is not None and fitted.achieved.latency_ms is not None
    assert fitted.achieved.latency_ms <= most
    assert fitted.achieved.latency_ms >= 0.9 * most


def test_all_bounds_hold_and_the_tightest_is_used_up() -> None:
    bounds = [Bound("latency_ms", 0.5 * MOST, chain((5.0, 1.0, 1.0, 1.0))), Bound("macs", 50, lambda c: c.sum(-1))]
    fitted = fit_budget(bounds, groups(1), utility(), measure, rule="uniform")
    assert fitted is not None and fitted.achieved.latency_ms is not None
    assert fitted.achieved.macs == 50
    assert fitted.achieved.latency_ms < 0.5 * MOST


def test_the_first_initial_plan_that_fits_is_where_it_starts() -> None:
    initial = [WIDTHS, np.array([2, 30, 3]), np.array([1, 2, 3])]
    fitted = fit_budget(
        [Bound("latency_ms", 0.4 * MOST, TRUTH)], groups(1), utility(), measure, rule="uniform", initial=initial
    )
    assert fitted is not None
    assert fitted.counts[1] >= 30


def test_a_budget_out_of_reach() -> None:
    assert fit_budget([Bound("latency_ms", SMALLEST - 1, TRUTH)], groups(1), utility(), measure, rule="uniform") is None


def test_a_budget_for_everything_keeps_everything() -> None:
    fitted = fit_budget([Bound("latency_ms", 2 * MOST, TRUTH)], groups(4), utility(), measure, rule="uniform")
    assert fitted is not None
    assert (fitted.counts == WIDTHS).all()
