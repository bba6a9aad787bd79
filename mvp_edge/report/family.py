"""The index of a family of models: accuracy against latency and size, and links to each report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mvp_edge.report import figures
from mvp_edge.report.page import render
from mvp_edge.report.record import FamilyModel, FamilyReport

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 20, 20, 34
TICKS = (1, 2, 5)
COSTS = {"latency_ms": "Latency, ms", "size_kib": "File, KiB"}


@dataclass(frozen=True)
class Point:
    """A model in the plot, in pixels; `front` if no other is both cheaper and better."""

    x: float
    y: float
    label: str
    text: str
    front: bool


@dataclass(frozen=True)
class Plot:
    """Accuracy against a cost on a log scale: points, the path through the front, and marks on both axes."""

    title: str
    points: tuple[Point, ...]
    path: str
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def render_family(index: FamilyReport, path: Path) -> None:
    """Write the index as one page that needs no network.

    Args:
        index: The models of the family.
        path: File to write; it appears complete or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    rows = [
        {
            "directory": m.directory,
            "top1": expected(m),
            "latency": f"{figures.significant(m.latency_ms)} ms",
            "size": figures.storage(1024 * m.size_kib),
            "macs": figures.quantity(m.macs),
            "params": figures.quantity(m.params),
            "keep": figures.percent(100 * m.keep),
        }
        for m in index.models
    ]
    known = [m for m in index.models if m.top1 is not None]
    plots = [plot(known, cost, title) for cost, title in COSTS.items()] if known else []
    render(
        "family.html.j2",
        path,
        names=", ".join(index.task.classes),
        base=index.base,
        rows=rows,
        plots=plots,
        n=max(m.n for m in index.models),
        sources=list(dict.fromkeys(m.source for m in index.models if m.source)),
        warnings=index.warnings,
        width=WIDTH,
        height=HEIGHT,
        box=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
    )


def expected(model: FamilyModel) -> str:
    """Return a model's top-1 in words; an estimate says so."""
    return f"{'about ' if model.source else ''}{figures.percent(model.top1)}"


def plot(models: Sequence[FamilyModel], cost: str, title: str) -> Plot:
    """Lay out one plot of models whose accuracy is known; its axes end a little beyond the outermost ones."""
    costs, top1 = [getattr(m, cost) for m in models], [m.top1 or 0.0 for m in models]
    left, right = math.log(min(costs) / 1.25), math.log(max(costs) * 1.25)
    low, high = max(0, math.floor(min(top1)) - 1), min(100, math.ceil(max(top1)) + 1)

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (math.log(value) - left) / (right - left), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    points = tuple(
        Point(x(spent), y(score), m.directory, f"{m.directory}: {expected(m)}", cost in m.front)
        for m, spent, score in zip(models, costs, top1, strict=True)
    )
    front = sorted((p.x, p.y) for p in points if p.front)
    step = max(1, math.ceil((high - low) / 6))
    return Plot(
        title,
        points,
        "M" + "L".join(f"{px} {py}" for px, py in front) if front else "",
        tuple((x(v), f"{v:g}") for v in _ticks(math.exp(left), math.exp(right))),
        tuple((y(v), f"{v} %") for v in range(low, high + 1, step)),
    )


def _ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [v for e in exponents for t in TICKS if low <= (v := t * 10.0**e) <= high]
