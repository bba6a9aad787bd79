"""Figures of the experiments, in the colours of the package's own plots; the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mvp_edge.timing.plot import COLOURS, INK, MUTED, RAIL

SHADES = ("#0b7a68", "#2f9f86", "#6dbfa8", "#a3cfc0", "#c9d8d1")  # near to far
CURVES = (*COLOURS[:2], "#c2703d", "#7a5aa6", MUTED)


@contextmanager
def panels(path: Path, titles: Sequence[str], width: float = 4.6, height: float = 3.6):
    """Yield one pair of axes for each title, side by side, and write the figure to `path`."""
    from matplotlib import rc_context  # takes half a second
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "mvp-edge", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(width * len(titles), height), layout="constrained")
        axes = figure.subplots(1, len(titles), squeeze=False)[0]
        for each, title in zip(axes, titles, strict=True):
            each.set_title(title, loc="left", color=INK, fontsize=10)
            each.spines[["top", "right"]].set_visible(False)
            each.spines[["bottom", "left"]].set_color(RAIL)
            each.tick_params(length=0, colors=MUTED)
            each.grid(axis="y", color=RAIL, linewidth=0.7)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})


def curve(
    axes: Any, points: Mapping[float, tuple[float, float | None]], label: str, colour: str, dashed: bool = False
) -> None:
    """Draw mean against x with the standard deviation over tasks as a band."""
    if not points:
        return
    xs = sorted(points)
    means = [points[x][0] for x in xs]
    spread = [points[x][1] or 0.0 for x in xs]
    axes.plot(xs, means, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=label,
              linestyle="--" if dashed else "-")  # fmt: skip
    low, high = ([m + sign * s for m, s in zip(means, spread, strict=True)] for sign in (-1, 1))
    axes.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)


def by_layer(axes: Any, values: Mapping[str, float | None], label: str, colour: str, dashed: bool = False) -> None:
    """Draw one number for each layer, in the order given."""
    names = list(values)
    heights = [float("nan") if values[n] is None else values[n] for n in names]
    axes.plot(range(len(names)), heights, color=colour, marker="o", markersize=3, linewidth=1.5, label=label,
              linestyle="--" if dashed else "-")  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=70, fontsize=7)


def legend(axes: Any) -> None:
    """Add a legend without a frame, if there is anything to tell apart."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
