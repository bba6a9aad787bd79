from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mvp_edge.config import FitConfig
from mvp_edge.export import TOLERANCE
from mvp_edge.models.plan import KeepPlan, full_plan, make_plan
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.deliver import method_in_words, origin_of, rounding
from mvp_edge.prune.fit import Tuned
from mvp_edge.training.interpolation import Interpolation
from mvp_edge.voting.neighbours import Neighbour
from mvp_edge.zoo.member import MemberInfo

WIDTHS = {"a": 8, "b": 8}
TRAINED, UNTRAINED = Tuned(FitConfig(iterations=5)), Tuned(FitConfig(iterations=0))
NO_GAIN = replace(TRAINED, interpolation=Interpolation(0.0, 24, 3, {0.0: 0.3, 1.0: 0.5}, {0.0: 90.0, 1.0: 80.0}))


def plan(units: int) -> KeepPlan:
    return make_plan(WIDTHS, {name: range(units) for name in WIDTHS})


def neighbour(kind: Any) -> Neighbour:
    task = Task((TaskClass("apple"), TaskClass("pear")))
    return Neighbour(MemberInfo("id", task, kind, plan(4), ""), 0.9)


GENERALIST, SPECIALISTS = neighbour("generalist"), neighbour("specialist")


@pytest.mark.parametrize(
    ("kept", "voters", "tuned", "expected"),
    [
        (4, [GENERALIST], UNTRAINED, "ready-made"),
        (4, [GENERALIST], NO_GAIN, "ready-made"),
        (6, [GENERALIST], UNTRAINED, "ready-made"),  # what was added is not read yet
        (2, [GENERALIST], UNTRAINED, "member"),  # something was cut off
        (4, [GENERALIST], TRAINED, "member"),
        (4, [SPECIALISTS], UNTRAINED, "vote"),
        (4, [GENERALIST, SPECIALISTS], TRAINED, "vote"),
    ],
)
def test_where_a_model_comes_from(kept: int, voters: list[Neighbour], tuned: Tuned, expected: str) -> None:
    assert origin_of(plan(kept), voters, tuned) == expected


def test_keeping_everything_is_no_pruning() -> None:
    assert origin_of(full_plan(WIDTHS), [GENERALIST], TRAINED) == "base"


def test_only_a_vote_is_called_one() -> None:
    assert method_in_words("vote", "smsp").startswith("SMSP")
    assert method_in_words("vote", "mvp") == "meta-vote pruning"
    assert all("vot" not in method_in_words(o, "mvp") for o in ("member", "ready-made", "base"))


def test_a_file_that_rounds_more_than_usual_is_warned_of() -> None:
    assert rounding(TOLERANCE) == []
    (warning,) = rounding(1.5 * TOLERANCE)
    assert f"{1.5 * TOLERANCE:.1e}" in warning
