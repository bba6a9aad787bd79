from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mvp_edge.config import Budget, FitConfig, PruneConfig
from mvp_edge.data import ImageSet
from mvp_edge.models.plan import KeepPlan, full_plan, make_plan
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.deliver import SAME_ERRORS, Costs, check_budget, method_in_words, origin_of, slower, surest_errors
from mvp_edge.prune.fit import Tuned
from mvp_edge.report.record import BytesRecord, LatenciesRecord, LatencyRecord, LimitRecord
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


def costs(ms: float = 1.0, macs: int = 1000, params: int = 100, file_bytes: int = 1024, dense_ms: float = 5.0) -> Costs:
    slow, fast = (LatencyRecord(median=value, iqr=0.1, p95=value) for value in (dense_ms, ms))
    return Costs(
        params=params,
        base_params=10 * params,
        macs=macs,
        base_macs=10 * macs,
        unprunable_macs=1,
        bytes=BytesRecord(onnx=file_bytes, parameters=file_bytes, dense_onnx=file_bytes),
        latency_ms=LatenciesRecord(dense=slow, pruned=fast, threads=1, runs=1, clock="wall"),
        nominal_training_tflops=0.0,
    )


def config(budget: Budget | None, data: str | None = "photos") -> PruneConfig:
    return PruneConfig(Path("classes.txt"), data, budget=budget)


def test_without_a_budget_there_is_nothing_to_spend() -> None:
    assert check_budget(config(None), 0.1, costs()) == (None, [])


def test_each_limit_is_told_in_its_own_unit() -> None:
    asked = config(Budget(latency_ms=1.02, macs=1010, params=101, size_kib=1.1))
    assert check_budget(asked, 0.1, costs()) == (
        {
            "latency_ms": LimitRecord(limit=1.02, achieved=1.0),
            "macs": LimitRecord(limit=1010, achieved=1000),
            "params": LimitRecord(limit=101, achieved=100),
            "size_kib": LimitRecord(limit=1.1, achieved=1.0),
        },
        [],
    )


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(macs=1000), []),
        (Budget(macs=998), ["macs is 1000: the budget of 998 is missed by 0.2 %"]),  # nothing is forgiven
        (Budget(macs=950), ["macs is 1000: the budget of 950 is missed by 5.3 %"]),
        (
            Budget(latency_ms=0.9, macs=2000),
            [
                "latency_ms is 1 (median wall time): the budget of 0.9 is missed by 11 %; other programs may have "
                "slowed the measurement"
            ],
        ),
    ],
)
def test_what_is_over_a_limit_is_said(budget: Budget, said: list[str]) -> None:
    assert check_budget(config(budget), 0.1, costs())[1] == said


@pytest.mark.parametrize(
    ("data", "keep", "why"),
    [("photos", 0.1, "no larger network that fits was found"), (None, 0.1, "without images a member"), (None, 1.0, "")],
)
def test_a_budget_far_from_used_up_is_said_unless_everything_is_kept(data: str | None, keep: float, why: str) -> None:
    asked = config(Budget(macs=1200, params=101), data)
    warnings = check_budget(asked, keep, costs(params=80))[1]
    assert [w.partition(": ")[2][: len(why)] for w in warnings] == ([why] if why else [])
    assert check_budget(asked, keep, costs())[1] == []  # the tightest limit counts


@pytest.mark.parametrize(("ms", "said"), [(5.0, 0), (5.1, 1)])
def test_a_model_that_takes_longer_than_the_base_is_said(ms: float, said: int) -> None:
    assert len(slower(costs(ms))) == said


def test_the_surest_mistakes() -> None:
    logits = torch.tensor([[0.0, 9, 0], [5, 0, 0], [0, 3, 0], [0, 7, 0], [0, 8, 0], [0, 0, 1]])
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    files = tuple(f"d/{i}.png" for i in range(6))
    images = ImageSet(torch.zeros(6, 3, 4, 4, dtype=torch.uint8), labels, ("a", "b", "c"), files=files)
    found = surest_errors(logits, images)
    assert [(e.file, e.true, e.predicted) for e in found] == [
        ("0.png", "a", "b"), ("4.png", "a", "b"), ("3.png", "a", "b"), ("5.png", "b", "c"),
    ]  # fmt: skip
    assert len(found) == SAME_ERRORS + 1
    assert found[0].confidence > 0.99
