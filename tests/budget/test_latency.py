from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mvp_edge.budget.costs import Costs, Products, costs_of
from mvp_edge.budget.latency import (
    PROBES,
    LatencyProbe,
    fit_latency,
    probe_counts,
    raise_where_free,
)
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import open_zoo
from tests.budget.synthetic import WIDTHS, chain


@pytest.fixture
def prunable(tiny_zoo: Path) -> PrunableModel:
    zoo = open_zoo(str(tiny_zoo))
    return PrunableModel.of(zoo.base, zoo.load_base())


@pytest.fixture
def costs(prunable: PrunableModel) -> Costs:
    return costs_of(prunable.model, prunable.table, prunable.base.input_size, prunable.head, 2)


def probe(prunable: PrunableModel, costs: Costs) -> LatencyProbe:
    return LatencyProbe(prunable.base, prunable.model, prunable.table, costs, ["a", "b"])


def test_probes_are_always_the_same_multiples_of_8(costs: Costs) -> None:
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
    monkeypatch.setattr("mvp_edge.budget.latency.time_call", lambda file: pytest.fail("timed again"))
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
    monkeypatch.setattr("mvp_edge.budget.latency.time_call", lambda file: pytest.fail("timed"))
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


def layers() -> Costs:
    work = chain((9.0, 9.0, 9.0, 1.0), 0.0)
    work = Products(work.weight[:4], work.fixed[:4], work.per_unit[:4])
    some = work.weighted(np.ones(4))
    kinds = ((64, False), (64, False), (16, False), (1, False))
    return Costs(("a", "b", "c"), WIDTHS, some, some, some, work, kinds, some)


@pytest.mark.parametrize("multiple", [4, 8, 16, 32])
def test_speeds_and_multiple_are_found_again(multiple: int) -> None:
    truth = layers().work.padded(multiple)
    speed = np.array([1e-3, 1e-3, 4e-3, 2e-3])
    draw = np.random.default_rng(0)
    counts = draw.integers(1, WIDTHS + 1, (40, 3))
    times = 0.05 + truth.weighted(truth.weight * speed)(counts)
    model = fit_latency(layers(), counts[:30], times[:30])
    assert model.multiple == multiple
    assert model.error < 1e-6
    assert model(counts[30:]) == pytest.approx(times[30:], rel=1e-6)
    assert float(model(counts[0])) == pytest.approx(times[0])


def test_noise_does_not_make_speeds_negative() -> None:
    draw = np.random.default_rng(1)
    counts = draw.integers(1, WIDTHS + 1, (12, 3))
    model = fit_latency(layers(), counts, draw.uniform(0.1, 5, 12))
    assert model.fixed_ms >= 0
    assert all((part.weight >= 0).all() for part in model.parts)


def test_padding_leaves_lengths_that_no_group_covers() -> None:
    padded = replace(chain(), multiple=8)
    assert padded(np.array([8, 8, 8])) == chain()(np.array([8, 8, 8]))
    assert padded(np.array([1, 8, 8])) == chain()(np.array([8, 8, 8]))


STAGES = np.array([64, 64, 128])
ONE = np.ones(3, int)


def padded(multiple: int, counts: np.ndarray) -> float:
    return float((np.ceil(counts / multiple) * multiple).sum())


@pytest.mark.parametrize(
    ("multiple", "filled"), [(4, [8, 8, 16]), (8, [8, 8, 16]), (16, [16, 16, 16]), (32, [32, 32, 32])]
)
def test_what_is_padded_anyway_is_filled(multiple: int, filled: list[int]) -> None:
    counts = raise_where_free(np.array([6, 7, 13]), STAGES, ONE, lambda c: padded(multiple, c), lambda c: True)
    assert counts.tolist() == filled


def test_what_costs_time_is_left() -> None:
    start = np.array([6, 7, 13])
    assert (raise_where_free(start, STAGES, ONE, lambda c: float(c.sum()), lambda c: True) == start).all()


def test_groups_of_a_width_are_filled_where_not_all_can_be() -> None:
    def time_ms(counts: np.ndarray) -> float:
        return float(counts[:2].sum() + np.ceil(counts[2] / 32) * 32)

    assert raise_where_free(np.array([6, 7, 13]), STAGES, ONE, time_ms, lambda c: True).tolist() == [6, 7, 32]


def test_what_a_faster_multiple_gains_is_not_spent_on_further_ones() -> None:
    def time_ms(counts: np.ndarray) -> float:
        return float(counts.sum()) * (1.5 if (counts % 8).any() else 1.0)

    assert raise_where_free(np.array([6, 7, 13]), STAGES, ONE, time_ms, lambda c: True).tolist() == [8, 8, 16]


def test_other_limits_hold() -> None:
    counts = raise_where_free(np.array([6, 7, 13]), STAGES, ONE, lambda c: 1.0, lambda c: c.sum() <= 40)
    assert counts.tolist() == [8, 8, 16]


def test_units_of_many_channels_and_specialist_groups() -> None:
    counts = raise_where_free(np.array([1, 60, 3]), STAGES, np.array([16, 1, 4]), lambda c: 1.0, lambda c: True)
    assert counts.tolist() == [2, 64, 8]


def test_many_widths_are_filled_together_only() -> None:
    widths = np.arange(10) * 8 + 64
    tried = []

    def time_ms(counts: np.ndarray) -> float:
        tried.append(counts)
        return float(counts.sum())

    raise_where_free(np.full(10, 6), widths, np.ones(10, int), time_ms, lambda c: True)
    assert len(tried) == 1 + 4
