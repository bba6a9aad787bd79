import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp_edge.models.plan import KeepPlan, make_plan
from mvp_edge.voting.votes import count_votes, select_units

WIDTH = 12
ballots = st.lists(st.sets(st.integers(0, WIDTH - 1), min_size=4, max_size=4), min_size=1, max_size=6)


def plans(sets: list[set[int]]) -> list[KeepPlan]:
    return [make_plan({"g": WIDTH}, {"g": s}) for s in sets]


def run(votes: dict[str, np.ndarray], vote: str, temperature: float = 0.5, seed: int = 0) -> tuple[int, ...]:
    plan = select_units(
        votes,
        {"g": 4},
        vote=vote,  # pyright: ignore[reportArgumentType]
        temperature=temperature,
        tie_break={"g": np.arange(WIDTH, dtype=float)},
        rng=np.random.default_rng(seed),
    )
    return plan["g"]


@given(st.sets(st.integers(0, WIDTH - 1), min_size=4, max_size=4), st.integers(1, 5))
def test_a_unanimous_vote_is_the_ballot(chosen: set[int], voters: int) -> None:
    assert run(count_votes(plans([chosen] * voters)), "top") == tuple(sorted(chosen))


@given(ballots, st.randoms())
def test_the_order_of_ballots_is_irrelevant(sets: list[set[int]], random: object) -> None:
    shuffled = sets[:]
    random.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    for vote in ("top", "sample"):
        assert run(count_votes(plans(sets)), vote) == run(count_votes(plans(shuffled)), vote)


@given(ballots, st.sampled_from(["top", "sample"]), st.integers(0, 99))
def test_elected_units_are_as_many_as_asked_for(sets: list[set[int]], vote: str, seed: int) -> None:
    kept = run(count_votes(plans(sets)), vote, seed=seed)
    assert len(kept) == len(set(kept)) == 4
    assert min(kept) >= 0 and max(kept) < WIDTH


@given(ballots)
def test_top_is_the_limit_of_sampling_at_low_temperature(sets: list[set[int]]) -> None:
    votes = count_votes(plans(sets))["g"]
    lowest = min(votes[list(run({"g": votes}, "sample", temperature=1e-9))])
    assert lowest == min(votes[list(run({"g": votes}, "top"))])


def test_ties_fall_to_the_more_important_unit() -> None:
    assert run({"g": np.zeros(WIDTH)}, "top") == (8, 9, 10, 11)
    votes = np.zeros(WIDTH)
    votes[[0, 1]] = 1
    assert run({"g": votes}, "top") == (0, 1, 10, 11)


def test_sampling_follows_equation_1() -> None:
    votes = np.array([0.0, 1.0, 2.0])
    expected = np.exp(votes / 0.7) / np.exp(votes / 0.7).sum()
    rng = np.random.default_rng(1)
    drawn = [
        select_units({"g": votes}, {"g": 1}, vote="sample", temperature=0.7, tie_break={"g": np.zeros(3)}, rng=rng)[
            "g"
        ][0]
        for _ in range(4000)
    ]
    assert np.allclose(np.bincount(drawn, minlength=3) / 4000, expected, atol=0.03)


def test_weights_of_ballots_count() -> None:
    votes = count_votes(plans([{0, 1, 2, 3}, {4, 5, 6, 7}]), [1.0, 1.5])
    assert run(votes, "top") == (4, 5, 6, 7)
    with pytest.raises(ValueError, match="at least one ballot"):
        count_votes([])
