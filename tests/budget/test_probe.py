from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mvp_edge.budget import Costs, costs_of
from mvp_edge.budget.probe import PROBES, LatencyProbe, probe_counts
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import open_zoo


@pytest.fixture
def prunable(tiny_zoo: Path) -> PrunableModel:
    zoo = open_zoo(str(tiny_zoo))
    return PrunableModel.of(zoo.base, zoo.load_base())


@pytest.fixture
def costs(prunable: PrunableModel) -> Costs:
    return costs_of(prunable.model, prunable.table, prunable.base.input_size, prunable.head, 2)


def probe(prunable: PrunableModel, costs: Costs) -> LatencyProbe:
    return LatencyProbe(prunable.base, prunable.model, prunable.table, costs, ["a", "b"])


def test_probes_are_always_the_same_whole_lanes(costs: Costs) -> None:
    ones = np.ones(len(costs.names), int)
    rows = probe_counts(costs, ones)
    assert rows.shape == (PROBES, len(costs.names))
    assert (rows == probe_counts(costs, ones)).all()
    assert ((rows % 8 == 0) | (rows == costs.widths)).all()
    assert (rows >= 1).all() and (rows <= costs.widths).all()


def test_times_are_kept_and_read_again(
    prunable: PrunableModel, costs: Costs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path))
    rows = np.array([np.minimum(8, costs.widths), costs.widths])
    first = probe(prunable, costs).times_ms(rows)
    assert (first > 0).all()
    monkeypatch.setattr("mvp_edge.budget.probe.time_call", lambda file: pytest.fail("timed again"))
    again = probe(prunable, costs)
    assert (again.times_ms(rows) == first).all()
    found = again.achieved(rows[0], {"latency_ms"})
    assert (found.latency_ms, found.params) == (first[0], costs.params(rows[0]))
    assert found.macs == pytest.approx(costs.macs(rows[0]), rel=1e-4)
    assert found.size_bytes > costs.stored(rows[0])
    about = json.loads(again.file.read_text())["about"]
    assert about["input_size"] == [32, 32] and about["threads"] == 1
    assert {"arch", "groups", "onnxruntime", "processor"} <= about.keys()


def test_nothing_is_timed_that_no_limit_asks_for(
    prunable: PrunableModel, costs: Costs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path))
    monkeypatch.setattr("mvp_edge.budget.probe.time_call", lambda file: pytest.fail("timed"))
    found = probe(prunable, costs).achieved(np.minimum(8, costs.widths), {"macs", "params"})
    assert found.latency_ms is None and found.params > 0


@pytest.mark.parametrize("content", ["{", "[]", '{"about": {}, "times_ms": {"8": "long"}}', '{"times_ms": {"8": 1}}'])
def test_a_damaged_or_foreign_cache_is_measured_anew(
    prunable: PrunableModel, costs: Costs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path))
    one = probe(prunable, costs)
    one.file.parent.mkdir()
    one.file.write_text(content)
    assert probe(prunable, costs).times_ms(np.minimum(8, costs.widths)[None]) > 0
    assert json.loads(one.file.read_text())["about"] == one.about


def test_a_cache_that_cannot_be_written_only_costs_time(
    prunable: PrunableModel, costs: Costs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "file"))
    assert probe(prunable, costs).times_ms(np.minimum(8, costs.widths)[None]) > 0
