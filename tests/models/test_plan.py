import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp_edge.core.errors import PlanError
from mvp_edge.models.plan import GroupKeep, KeepPlan, full_plan, keep_count, make_plan

WIDTHS = {"a": 64, "b": 128, "c": 256, "d": 512}


def test_counts_are_the_aligned_ones_nearest_to_the_ratio() -> None:
    assert [keep_count(w, 0.1, 8) for w in WIDTHS.values()] == [8, 16, 24, 48]
    assert [keep_count(w, 0.1, 1) for w in WIDTHS.values()] == [6, 13, 26, 51]
    assert [keep_count(w, 0.3, 8) for w in WIDTHS.values()] == [16, 40, 80, 152]


def test_a_unit_of_many_channels_counts_as_many() -> None:
    assert keep_count(23, 0.1, 8, unit_channels=16) == 2
    assert keep_count(23, 0.1, 8, unit_channels=4) == 2
    assert keep_count(7, 0.1, 16, unit_channels=8) == 2


@given(st.integers(1, 3000), st.floats(1e-4, 1), st.integers(1, 32), st.integers(1, 32))
def test_counts_stay_in_range_and_aligned(width: int, keep: float, channel_multiple: int, unit: int) -> None:
    n = keep_count(width, keep, channel_multiple, unit)
    assert 1 <= n <= width
    assert n == width or n * unit % channel_multiple == 0


@given(st.integers(1, 3000), st.integers(1, 32))
def test_keep_all_keeps_all_that_fits_a_lane(width: int, channel_multiple: int) -> None:
    assert width - keep_count(width, 1.0, channel_multiple) <= channel_multiple // 2


@pytest.mark.parametrize(("keep", "channel_multiple"), [(0, 8), (-0.1, 8), (1.01, 8), (0.1, 0)])
def test_counts_refuse_what_makes_no_sense(keep: float, channel_multiple: int) -> None:
    with pytest.raises(PlanError):
        keep_count(64, keep, channel_multiple)


@pytest.mark.parametrize("kept", [(), (2, 1), (1, 1), (-1, 2), (0, 4)])
def test_kept_units_are_sorted_unique_and_in_range(kept: tuple[int, ...]) -> None:
    with pytest.raises(PlanError):
        GroupKeep("g", 4, kept)


@given(st.dictionaries(st.text(min_size=1), st.sets(st.integers(0, 99), min_size=1), min_size=1))
def test_json_round_trip(kept: dict[str, set[int]]) -> None:
    plan = make_plan(dict.fromkeys(kept, 100), kept)
    assert KeepPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("value", [{}, {"format": 2, "groups": []}, {"format": 1, "groups": [{"name": "a"}]}, []])
def test_what_is_no_plan_is_named_so(value: dict[str, object]) -> None:
    with pytest.raises(PlanError, match="plan"):
        KeepPlan.from_json(value)


def test_a_full_plan_keeps_everything() -> None:
    assert full_plan(WIDTHS).achieved == 1.0


def test_a_plan_for_what_another_leaves_is_one_of_the_base() -> None:
    outer = make_plan({"a": 6, "b": 3}, {"a": [0, 2, 5], "b": [0, 1, 2]})
    inner = make_plan({"a": 3, "b": 3}, {"a": [1, 2], "b": [2]})
    assert outer.then(inner) == make_plan({"a": 6, "b": 3}, {"a": [2, 5], "b": [2]})
    with pytest.raises(PlanError, match="another network"):
        inner.then(outer)
