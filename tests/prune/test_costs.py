from pathlib import Path
from typing import Any

import pytest

from mvp_edge.config import Budget, PruneConfig
from mvp_edge.prune.costs import slowed, spent


def costs(ms: float = 1.0, macs: int = 1000, params: int = 100, file_bytes: int = 1024, dense_ms: float = 5.0) -> Any:
    latency = {"dense": {"median": dense_ms}, "pruned": {"median": ms}}
    return {"latency_ms": latency, "macs": macs, "params": params, "bytes": {"onnx": file_bytes}}


def config(budget: Budget | None, data: str | None = "photos") -> PruneConfig:
    return PruneConfig(Path("classes.txt"), data, budget=budget)


def test_without_a_budget_there_is_nothing_to_spend() -> None:
    assert spent(config(None), 0.1, costs()) == (None, [])


def test_each_limit_is_told_in_its_own_unit() -> None:
    asked = config(Budget(latency_ms=1.02, macs=1010, params=101, size_kib=1.1))
    assert spent(asked, 0.1, costs()) == (
        {
            "latency_ms": {"limit": 1.02, "achieved": 1.0},
            "macs": {"limit": 1010, "achieved": 1000},
            "params": {"limit": 101, "achieved": 100},
            "size_kib": {"limit": 1.1, "achieved": 1.0},
        },
        [],
    )


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(macs=960), []),  # within the 5 % that are not said aloud
        (Budget(macs=950), ["macs is 1000, over the budget of 950"]),
        (
            Budget(latency_ms=0.9, macs=2000),
            ["latency_ms is 1, over the budget of 0.9; other programs may have slowed the measurement down"],
        ),
    ],
)
def test_what_is_over_a_limit_is_said(budget: Budget, said: list[str]) -> None:
    assert spent(config(budget), 0.1, costs())[1] == said


@pytest.mark.parametrize(
    ("data", "keep", "why"),
    [("photos", 0.1, "no larger network that fits was found"), (None, 0.1, "without images a member"), (None, 1.0, "")],
)
def test_a_budget_far_from_used_up_is_said_unless_everything_is_kept(data: str | None, keep: float, why: str) -> None:
    asked = config(Budget(macs=1200, params=101), data)
    warnings = spent(asked, keep, costs(params=80))[1]
    assert [w.partition(": ")[2][: len(why)] for w in warnings] == ([why] if why else [])
    assert spent(asked, keep, costs())[1] == []  # the tightest limit counts


@pytest.mark.parametrize(("ms", "said"), [(5.0, 0), (5.1, 1)])
def test_a_model_that_takes_longer_than_the_base_is_said(ms: float, said: int) -> None:
    assert len(slowed(costs(ms))) == said
