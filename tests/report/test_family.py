from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mvp_edge.prune.family import shared_warnings, with_front
from mvp_edge.report import render_family
from mvp_edge.report.family import HEIGHT, WIDTH, plot
from mvp_edge.report.record import FamilyModel, FamilyReport, TaskRecord
from tests.report.test_report import text_of


def model(directory: str, top1: float | None, latency_ms: float, size_kib: float, n: int = 500) -> FamilyModel:
    counts: dict[str, Any] = {"macs": 7_000_000, "params": 100_000, "keep": 0.1, "n": n, "warnings": (), "budget": {}}
    return FamilyModel(directory=directory, top1=top1, latency_ms=latency_ms, size_kib=size_kib, **counts)


def index(models: Sequence[FamilyModel], classes: tuple[str, ...], *warnings: str) -> FamilyReport:
    task = TaskRecord(classes=classes, synsets=(None, None), id="t")
    return FamilyReport(
        task=task, base="b", models=tuple(models), out="out", files=(), seed=0, seconds={}, environment={},
        warnings=warnings,
    )  # fmt: skip


MODELS = [model("1ms", 95.0, 0.98, 900.0), model("0.2ms", 90.0, 0.19, 250.0), model("0.5ms", 89.0, 0.49, 240.0)]


def test_the_front_holds_what_nothing_else_beats() -> None:
    assert [m.front for m in with_front(MODELS)] == [
        ("latency_ms", "size_kib"),
        ("latency_ms", "size_kib"),
        ("size_kib",),
    ]
    twins = [model("a", 90.0, 1.0, 1.0), model("b", 90.0, 1.0, 1.0)]
    assert all(m.front for m in with_front(twins))


def test_what_several_models_share_is_said_once() -> None:
    warned = [replace(m, warnings=w) for m, w in zip(MODELS, (("a", "b"), ("b",), ("c", "b", "a")), strict=True)]
    assert shared_warnings(warned) == ("1ms, 0.5ms: a", "b", "0.5ms: c")
    assert shared_warnings(warned[:1]) == ("1ms: a", "1ms: b")


def test_nothing_is_said_of_models_whose_accuracy_is_unknown(tmp_path: Path) -> None:
    unknown = [model("3ms", None, 3.0, 9.0), model("4ms", None, 4.0, 10.0)]
    marked = with_front([*MODELS, *unknown])
    assert marked[:3] == with_front(MODELS)
    assert [m.front for m in marked[3:]] == [(), ()]
    render_family(index(marked, ("apple", "rose")), tmp_path / "some.html")
    page = (tmp_path / "some.html").read_text()
    assert page.count("<circle") == 2 * len(MODELS) and "\N{EM DASH}" in text_of(page)
    guessed = [replace(m, n=0, source="estimate: mean over lists") for m in MODELS]
    render_family(index(guessed, ("apple", "rose")), tmp_path / "guessed.html")
    text = text_of((tmp_path / "guessed.html").read_text())
    assert "accuracy is an estimate: mean over lists." in text and text.count("about 90") == 3  # a table and two plots
    none = [replace(m, n=0) for m in with_front(unknown)]
    render_family(index(none, ("apple", "rose")), tmp_path / "none.html")
    page = (tmp_path / "none.html").read_text()
    assert "<svg" not in page and "test images" not in page and "4ms" in page


@pytest.mark.parametrize("models", [MODELS, MODELS[:1], [model("a", 100.0, 1.0, 1.0), model("b", 0.0, 1e3, 1e6)]])
def test_points_lie_inside_the_plot(models: list[FamilyModel]) -> None:
    for cost in ("latency_ms", "size_kib"):
        drawn = plot(with_front(models), cost, "x")
        assert len(drawn.points) == len(models)
        for point in drawn.points:
            assert 0 < point.x < WIDTH and 0 < point.y < HEIGHT
        assert drawn.path.startswith("M")
        assert drawn.across and drawn.up


def test_better_is_higher_and_dearer_is_further_right() -> None:
    big, small, _ = plot(with_front(MODELS), "latency_ms", "x").points
    assert big.y < small.y and big.x > small.x
    assert [p.front for p in plot(with_front(MODELS), "latency_ms", "x").points] == [True, True, False]


def test_the_page_names_every_model(tmp_path: Path) -> None:
    render_family(index(with_front(MODELS), ("apple", "<b>"), "1ms: slow"), tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    text = text_of(page)
    for part in (
        "mvp-edge family: apple, <b>",
        "95.0 %",
        "0.190 ms",
        "240 KiB",
        "7.00 M",
        "1ms: slow",
        "500 real test",
    ):
        assert part in text
    assert 'href="0.2ms/report.html"' in page
    assert "http" not in page.replace("http-equiv", "")
