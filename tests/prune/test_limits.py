"""What is said of a budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from mvp_edge.config import Budget, PruneConfig
from mvp_edge.prune.limits import limits_of, missed, unused
from mvp_edge.report.record import LimitRecord

FIGURES = {"latency_ms": 1.0, "macs": 1000.0, "params": 100.0, "size_kib": 1.0}


def config(budget: Budget | None, data: str | None = "photos") -> PruneConfig:
    return PruneConfig(Path("classes.txt"), data, budget=budget)


def test_without_a_budget_there_is_nothing_to_spend() -> None:
    assert limits_of(None, FIGURES) is None
    assert missed(None, FIGURES, "wall") == unused(config(None), None, 0.1) == []


def test_each_limit_is_told_in_its_own_unit() -> None:
    budget = Budget(latency_ms=1.02, macs=1010, params=101, size_kib=1.1)
    found = limits_of(budget, FIGURES)
    assert found == {
        "latency_ms": LimitRecord(limit=1.02, achieved=1.0),
        "macs": LimitRecord(limit=1010, achieved=1000),
        "params": LimitRecord(limit=101, achieved=100),
        "size_kib": LimitRecord(limit=1.1, achieved=1.0),
    }
    assert missed(budget, FIGURES, "wall") == unused(config(budget), found, 0.1) == []


@pytest.mark.parametrize(
    ("budget", "clock", "said"),
    [
        (Budget(macs=1000), "wall", []),
        (
            Budget(macs=998),
            "wall",
            ["the model has 1.00 k MACs: the budget of 998 MACs is missed by 0.2 %"],
        ),  # nothing is forgiven
        (Budget(macs=950), "wall", ["the model has 1.00 k MACs: the budget of 950 MACs is missed by 5.3 %"]),
        (
            Budget(latency_ms=0.9, macs=2000),
            "wall",
            [
                "the model has 1.00 ms (median wall time): the budget of 0.900 ms is missed by 11 %; other programs "
                "may have slowed the measurement"
            ],
        ),
    ],
)
def test_what_is_over_a_limit_is_said(budget: Budget, clock: str, said: list[str]) -> None:
    assert missed(budget, FIGURES, clock) == said


@pytest.mark.parametrize(
    ("data", "keep", "why"),
    [("photos", 0.1, "no larger network that fits was found"), (None, 0.1, "without images a member"), (None, 1.0, "")],
)
def test_a_budget_far_from_used_up_is_said_unless_everything_is_kept(data: str | None, keep: float, why: str) -> None:
    budget = Budget(macs=1200, params=101)
    warnings = unused(config(budget, data), limits_of(budget, FIGURES | {"params": 80}), keep)
    assert [w.partition(": ")[2][: len(why)] for w in warnings] == ([why] if why else [])
    assert unused(config(budget, data), limits_of(budget, FIGURES), keep) == []  # the tightest limit counts
