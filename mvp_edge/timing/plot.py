"""A bar plot of latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mvp_edge.core.errors import ExportError

FORMATS = (".svg", ".png")
INK, MUTED, RAIL = "#17211d", "#5b6962", "#e9eeea"
COLOURS = ("#0b7a68", "#4cc9ad", "#a9b6af", "#5b6962")  # by number of threads, fewest first


@dataclass(frozen=True)
class LatencyBar:
    """One bar: a model and its threads, the median and interquartile range in ms, and a note beside the bar."""

    label: str
    threads: int
    median_ms: float
    iqr_ms: float
    note: str = ""


def check_format(path: Path) -> None:
    """Check, before anything is measured, that a plot can be drawn and written.

    Raises:
        ExportError: the ending is unknown, the directory is missing, or matplotlib is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise ExportError(f"--plot {path} must end in {' or '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise ExportError("--plot needs matplotlib, which is not installed; type: pip install matplotlib")
    if not path.absolute().parent.is_dir():
        raise ExportError(f"{path.parent} is not a directory; make it with: mkdir -p {path.parent}")


def plot_latencies(bars: Sequence[LatencyBar], path: Path, title: str) -> None:
    """Draw one horizontal bar for each model and number of threads; whiskers are interquartile ranges.

    Args:
        bars: Grouped by model, in the order of the first bar of each.
        path: File to write, SVG or PNG by its ending. The same bars give the same bytes.
        title: What was measured.

    Raises:
        ExportError: as `check_format`, or the file cannot be written.
    """
    check_format(path)
    # Imported here, because it takes half a second. The object interface needs no display and no global state.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    counts = sorted({bar.threads for bar in bars})
    rows = sorted(bars, key=lambda bar: ([b.label for b in bars].index(bar.label), bar.threads))
    with rc_context({"svg.hashsalt": "mvp-edge", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(8.0, 1.1 + 0.42 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        full = max(bar.median_ms + bar.iqr_ms / 2 for bar in rows)
        for place, bar in enumerate(rows):
            colour = COLOURS[min(counts.index(bar.threads), len(COLOURS) - 1)]
            axes.barh(place, bar.median_ms, height=0.62, color=colour)
            axes.errorbar(bar.median_ms, place, xerr=bar.iqr_ms / 2, color=INK, capsize=3, linewidth=1.2)
            text = f"{bar.median_ms:.3g} ms" + (f", {bar.note}" if bar.note else "")
            axes.text(bar.median_ms + bar.iqr_ms / 2 + 0.012 * full, place, text, va="center", color=INK)
        several = len(counts) > 1
        names = [f"{bar.label}, {bar.threads} thr." if several else bar.label for bar in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.35 * full)
        axes.set_xlabel("ms a call, median and interquartile range; less is better", color=MUTED)
        axes.set_title(title, loc="left", color=INK, fontsize=11)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(RAIL)
        axes.tick_params(length=0, colors=MUTED)
        axes.tick_params(axis="y", labelcolor=INK)
        try:
            # Without a date, so that the same bars give the same bytes.
            metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
            figure.savefig(path, dpi=160, metadata=metadata)
        except OSError as e:
            raise ExportError(f"{path} cannot be written ({e.strerror or e}); choose another file with --plot") from e
