"""Numbers as text and as lengths in percent. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mvp_edge.config import Similarity
from mvp_edge.report.record import LatencyRecord

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
UNKNOWN = "\N{EM DASH}"


@dataclass(frozen=True)
class Bar:
    """A labelled horizontal bar.

    Attributes:
        label: What it stands for.
        text: Its value, to be read.
        length: Length in percent of the track.
        whisker: Left end and length of an error bar in percent of the track, if there is one.
        note: A remark beside the value.
    """

    label: str
    text: str
    length: float
    whisker: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: how many, the share of its row in percent, and the text that a pointer shows."""

    count: int
    share: float
    hint: str


@dataclass(frozen=True)
class Confusion:
    """One way in which a model is wrong: `count` images of `true` taken for `predicted`."""

    true: str
    predicted: str
    count: int


def significant(value: float, digits: int = 3) -> str:
    """Return `value` with so many significant digits, thousands set off, a real minus sign, no exponent."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def quantity(value: float) -> str:
    """Return a large count with a decimal prefix: `7.12 M`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{significant(value / factor)} {prefix}"
    return f"{value:,.0f}"


def storage(size_bytes: float) -> str:
    """Return a file size in binary units: `419 KiB`."""
    if size_bytes < 1024:
        return f"{size_bytes:,.0f} bytes"
    if size_bytes < 1024**2:
        return f"{significant(size_bytes / 1024)} KiB"
    return f"{significant(size_bytes / 1024**2)} MiB"


def limited(name: str, value: float) -> str:
    """Return a figure that a budget can limit, with its unit: `1.00 ms`, `7.12 M MACs`."""
    if name in ("macs", "params"):
        return f"{quantity(value)} {'MACs' if name == 'macs' else 'parameters'}"
    return f"{significant(value)} {'ms' if name == 'latency_ms' else 'KiB'}"


def upward(count: float) -> tuple[int, str]:
    """Return a limit that allows a count, of few digits, and how it is typed: `(24000000, "24M")`."""
    factor, prefix = next(((f, p) for f, p in ((10**6, "M"), (10**3, "k")) if count >= 10 * f), (1, ""))
    number = math.ceil(count / factor)
    return number * factor, f"{number}{prefix}"


def enough(name: str, value: float) -> str:
    """Return the option that allows a figure: `--max-macs 24M`; a latency with a tenth to spare."""
    if name in ("macs", "params"):
        text = upward(value)[1]
    else:
        # What is measured again is a little slower at times.
        text = f"{math.ceil(110 * value) / 100:g}" if name == "latency_ms" else f"{math.ceil(value)}"
    return f"--max-{name.replace('_', '-')} {text}"


def duration(seconds: float) -> str:
    """Return seconds, to hundredths below ten."""
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"


def percent(value: float | None) -> str:
    """Return a percentage that is already in percent, or a dash for what was not measured."""
    return UNKNOWN if value is None else f"{value:.1f} %"


def threads(count: int) -> str:
    """Return a number of threads in words."""
    return f"{count} CPU thread" + ("" if count == 1 else "s")


def gain(before: float, after: float, better: str, worse: str, digits: int = 2) -> str:
    """Return how far `after` is from `before`, in words: "42 times faster", or honestly "1.3 times slower"."""
    if min(before, after) <= 0:
        return "no ratio: one of the two is zero"
    ratio, word = (before / after, better) if after <= before else (after / before, worse)
    return f"{significant(ratio, digits)}{TIMES} {word}"


def length(value: float, full: float) -> float:
    """Return `value` as percent of `full`, inside 0 to 100."""
    return round(min(100.0, max(0.0, 100 * value / full)), 2) if full > 0 else 0.0


def similarity_lengths(similarities: Sequence[float], measure: Similarity) -> list[float]:
    """Return the bars of similarities by a measure, in percent.

    WordNet's lie in [0, 1]. LEEP is a mean log-likelihood, so at most 0: its exponential is the typical probability
    of the right class, on the same scale.
    """
    return [length(math.exp(s) if measure == "leep" else s, 1) for s in similarities]


def latency_bars(latencies: Mapping[str, LatencyRecord]) -> list[Bar]:
    """Return one bar for each labelled latency on a common scale, with the interquartile range about the median."""
    full = max((row.median + row.iqr / 2 for row in latencies.values()), default=0)
    return [
        Bar(
            label,
            f"{significant(row.median)} ms",
            length(row.median, full),
            (length(row.median - row.iqr / 2, full), length(row.iqr, full)),
            f"IQR {significant(row.iqr, 2)} ms, p95 {significant(row.p95)} ms",
        )
        for label, row in latencies.items()
    ]


def heat_map(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[list[Cell]]:
    """Return the cells of a confusion matrix; rows are the true classes, shares are of the row."""
    rows = []
    for true, counts in zip(names, confusion, strict=True):
        total = sum(counts)
        rows.append(
            [
                Cell(n, length(n, total), f"{true} taken for {seen}: {n} of {total}")
                for seen, n in zip(names, counts, strict=True)
            ]
        )
    return rows


def worst_confusions(confusion: Sequence[Sequence[int]], names: Sequence[str], most: int) -> list[Confusion]:
    """Return the most frequent mistakes, most frequent first."""
    mistakes = [
        Confusion(names[i], names[j], n) for i, row in enumerate(confusion) for j, n in enumerate(row) if n and i != j
    ]
    return sorted(mistakes, key=lambda c: -c.count)[:most]


def stripes(kept: Sequence[int]) -> str:
    """Return an SVG path of unit-high stripes, one for each kept index; neighbours run together."""
    path, start = [], None
    for index, unit in enumerate(kept):
        start = unit if start is None else start
        if index + 1 == len(kept) or kept[index + 1] != unit + 1:
            path.append(f"M{start} 0h{unit + 1 - start}v1h-{unit + 1 - start}z")
            start = None
    return "".join(path)
