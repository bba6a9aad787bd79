"""Figures of the experiments, in the colours of the package's own plots; the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mvp_edge.timing.plot import COLOURS, INK, MUTED, RAIL

MOST = 2  # panels a row: more are too small to read on a page


@dataclass(frozen=True)
class Style:
    """What tells a curve from the others, also without colours."""

    colour: str
    line: str = "-"
    marker: str = "o"


CURVES = (
    Style(COLOURS[0]), Style("#c2703d", "--", "s"), Style("#7a5aa6", "-.", "^"), Style("#2b6cb0", ":", "D"),
    Style(MUTED, "-", "v"),
)  # fmt: skip
SHADES = tuple(map(Style, ("#0b7a68", "#2f9f86", "#6dbfa8", "#a3cfc0", "#c9d8d1"), "-" * 5, "os^Dv"))  # near to far


@contextmanager
def panels(path: Path, titles: Sequence[str], width: float = 4.8, height: float = 3.3):
    """Yield one pair of axes for each title, in rows of `MOST` at most, and write the figure to `path`."""
    from matplotlib import rc_context  # takes half a second
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "mvp-edge", "svg.fonttype": "none", "font.size": 9}):
        columns, rows = min(MOST, len(titles)), -(-len(titles) // MOST)
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        found = list(figure.subplots(rows, columns, squeeze=False).flat)
        axes, spare = found[: len(titles)], found[len(titles) :]
        for each in spare:
            each.set_axis_off()
        for each, title in zip(axes, titles, strict=True):
            each.set_title(title, loc="left", color=INK, fontsize=10)
            each.spines[["top", "right"]].set_visible(False)
            each.spines[["bottom", "left"]].set_color(RAIL)
            each.tick_params(length=0, colors=MUTED)
            each.grid(axis="y", color=RAIL, linewidth=0.7)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})


def curve(axes: Any, values: pd.DataFrame, label: str, style: Style) -> None:
    """Draw the mean of each column against its name, with the standard deviation over rows as a band."""
    means, spread = values.mean(), values.std().fillna(0)
    axes.plot(means.index, means, color=style.colour, linestyle=style.line, marker=style.marker, markersize=3.5,
              linewidth=1.6, label=label)  # fmt: skip
    axes.fill_between(means.index, means - spread, means + spread, color=style.colour, alpha=0.12, linewidth=0)


def by_layer(axes: Any, values: Mapping[str, float], label: str, style: Style) -> None:
    """Draw one number for each layer, in the order given."""
    axes.plot(range(len(values)), [*values.values()], color=style.colour, linestyle=style.line, marker=style.marker,
              markersize=3, linewidth=1.5, label=label)  # fmt: skip
    axes.set_xticks(range(len(values)), [*values], rotation=70, fontsize=7)


def legend(axes: Any) -> None:
    """Add a legend beside the axes, if there is anything to tell apart."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
