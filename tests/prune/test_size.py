from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mvp_edge.budget.costs import costs_of
from mvp_edge.budget.latency import LatencyProbe
from mvp_edge.config import Budget, PruneConfig, VoteConfig
from mvp_edge.core.errors import BudgetError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.prune.size import Sizing, Votes, choose_counts
from mvp_edge.pruners import target_counts
from mvp_edge.zoo.store import open_zoo

LABELS = ("apple", "rose")
CONFIG = VoteConfig(channel_multiple=4)


@pytest.fixture
def prunable(tiny_zoo: Path) -> PrunableModel:
    zoo = open_zoo(str(tiny_zoo))
    return PrunableModel.of(zoo.base, zoo.load_base())


@pytest.fixture
def plans(tiny_zoo: Path) -> list[KeepPlan]:
    return [i.plan for i in open_zoo(str(tiny_zoo)).infos()]


@pytest.fixture(autouse=True)
def cache(probe_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(probe_cache))


def choose(
    prunable: PrunableModel, plans: list[KeepPlan], budget: Budget | None, config: VoteConfig = CONFIG, **more
) -> Sizing:
    votes = Votes(plans, [1.0] * len(plans), **more)
    wanted = PruneConfig(Path("classes.txt"), "photos", vote=config, budget=budget)
    return choose_counts(prunable, wanted, votes, LABELS, SilentProgress())


def probe(prunable: PrunableModel) -> LatencyProbe:
    costs = costs_of(prunable.model, prunable.table, prunable.base.input_size, prunable.head, len(LABELS))
    return LatencyProbe(prunable.base, prunable.model, prunable.table, costs, LABELS)


def test_the_ratio_decides_without_a_budget(prunable: PrunableModel, plans: list[KeepPlan]) -> None:
    found = choose(prunable, plans, None)
    assert found.counts == found.requested == target_counts(prunable.table, 0.1, 4)


@pytest.mark.parametrize(
    ("name", "figure", "limit"),
    [("macs", "macs", 1.5e6), ("params", "params", 60_000), ("size_kib", "size_bytes", 200.0)],
)
def test_a_budget_of_counts_is_kept_and_used(
    prunable: PrunableModel,
    plans: list[KeepPlan],
    name: str,
    figure: str,
    limit: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget: dict[str, Any] = {name: limit}
    monkeypatch.setattr("mvp_edge.budget.latency.time_call", lambda file: pytest.fail("no limit asks for times"))
    found = choose(prunable, plans, Budget(**budget))
    one = probe(prunable)
    achieved = getattr(one.achieved(one.costs.counts(found.counts), {figure}), figure) / (
        1024 if name == "size_kib" else 1
    )
    assert 0.9 * limit <= achieved <= limit
    assert choose(prunable, plans, Budget(**budget)) == found


def lanes_of_four(file: Path) -> float:
    """Return the milliseconds of a processor that works on four channels at once, whatever else the machine does."""
    weights = [w.dims for w in onnx.load(file).graph.initializer if len(w.dims) > 1]
    return 0.01 + sum(math.prod([math.ceil(rows / 4) * 4, *rest]) for rows, *rest in weights) / 1e6


def test_a_latency_budget_is_kept_and_used(
    prunable: PrunableModel, plans: list[KeepPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path))
    monkeypatch.setattr("mvp_edge.budget.latency.time_call", lanes_of_four)
    one = probe(prunable)
    least, most = one.times_ms(np.array([np.minimum(4, one.costs.widths), one.costs.widths]))
    limit = float(np.sqrt(least * most))
    found = choose(prunable, plans, Budget(latency_ms=limit))
    taken = float(one.times_ms(one.costs.counts(found.counts)[None])[0])
    assert 0.9 * limit <= taken <= limit
    monkeypatch.setattr("mvp_edge.budget.latency.time_call", lambda file: pytest.fail("the times are remembered"))
    assert choose(prunable, plans, Budget(latency_ms=limit)) == found


def test_two_budgets_hold_both(prunable: PrunableModel, plans: list[KeepPlan]) -> None:
    one = probe(prunable)
    counts = choose(prunable, plans, Budget(macs=1.5e6, params=30_000)).counts
    achieved = one.achieved(one.costs.counts(counts), {"macs", "params"})
    assert achieved.macs <= 1.5e6 and achieved.params <= 30_000


def test_the_search_goes_on_from_a_member_that_fits(prunable: PrunableModel, plans: list[KeepPlan]) -> None:
    found = choose(prunable, plans, Budget(params=200_000), initial=[plans[0]])
    assert all(found.counts[g] >= c for g, c in plans[0].counts.items())


def test_a_budget_out_of_reach_says_how_near_it_came(prunable: PrunableModel, plans: list[KeepPlan]) -> None:
    least = probe(prunable)
    smallest = least.achieved(np.minimum(4, least.costs.widths), {"params"})
    with pytest.raises(
        BudgetError, match=rf"{smallest.params:,} parameters, and --max-params is 100.*--channel-multiple 1"
    ):
        choose(prunable, plans, Budget(params=100, macs=1e12))
    with pytest.raises(BudgetError, match=r"KiB, and --max-size-kib is 5 KiB"):
        choose(prunable, plans, Budget(size_kib=5))
    with pytest.raises(BudgetError, match=r"KiB, and --budgets has 5 KiB"):
        choose(prunable, plans, Budget(size_kib=5, typed={"size_kib": "5KiB"}))
    with pytest.raises(
        BudgetError, match=r"--max-size-kib .* more than that, or --channel-multiple 1 for a smaller one$"
    ):
        choose(prunable, plans, Budget(size_kib=0.01))
    with pytest.raises(BudgetError, match=r"--max-latency-ms is 1e-06 ms. Allow .* remove .*\.json to time again$"):
        choose(prunable, plans, Budget(latency_ms=1e-6), replace(CONFIG, channel_multiple=1))


def test_auto_raises_counts_where_that_costs_no_time(
    prunable: PrunableModel, plans: list[KeepPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def padded(self: LatencyProbe, rows: np.ndarray, stage: object = None) -> np.ndarray:
        return (np.ceil(rows / 8) * 8).sum(1)

    monkeypatch.setattr(LatencyProbe, "times_ms", padded)
    found = choose(prunable, plans, None, replace(CONFIG, channel_multiple="auto"))
    assert found.requested == target_counts(prunable.table, 0.1, 1)
    widths = prunable.table.widths
    assert found.counts == {g: min(widths[g], -(-c // 8) * 8) for g, c in found.requested.items()}


def test_auto_stays_inside_the_budget(
    prunable: PrunableModel, plans: list[KeepPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LatencyProbe, "times_ms", lambda self, rows, stage=None: np.ones(len(rows)))
    found = choose(prunable, plans, Budget(params=50_000), replace(CONFIG, channel_multiple="auto"))
    one = probe(prunable)
    assert one.costs.params(one.costs.counts(found.counts)) <= 50_000


def test_smsp_keeps_the_units_with_most_votes_over_all_groups(prunable: PrunableModel, plans: list[KeepPlan]) -> None:
    config = replace(CONFIG, method="smsp", channel_multiple=1, keep=0.3)
    first = plans[0]
    found = choose(prunable, [first], None, config)
    total = sum(prunable.table.widths.values())
    assert sum(found.counts.values()) == int(0.3 * total)
    # One voter's units, half of each group, are worth more than all others: no group goes beyond them.
    assert all(c <= len(first[g]) for g, c in found.counts.items())
    assert len({round(c / prunable.table.widths[g], 2) for g, c in found.counts.items()}) > 1
    small = choose(prunable, [first], Budget(params=30_000), config)
    assert sum(small.counts.values()) < total
