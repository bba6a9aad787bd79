"""The tables of the pages, rendered from records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks import records

Frame = Any  # a pandas.DataFrame, whose own annotations give most selections several types


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines).replace(" --- ", "---")


def listed(rows: Frame | Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Return a table with a line for each row; a cell is its column's template, filled in with the row's values."""
    lines = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    marks = [records.dirty_mark([line["record"]]) if "record" in line else "" for line in lines]
    filled = ([cell.format(**r, mark=m) for cell in columns.values()] for r, m in zip(lines, marks, strict=True))
    return markdown([*columns], filled)


def frame(question: str) -> Frame:
    """Return the records of a measurement: what it was, and what came out, as columns; `dirty` and `record` besides."""
    found = records.read(question)
    table = pd.DataFrame([r["config"] | r["result"] for r in found])
    return table.assign(dirty=[r["dirty"] for r in found], record=found)


def mark(rows: Frame) -> str:
    """Return the sign of records that were made by uncommitted code."""
    return records.dirty_mark(list(rows.record))


def spread(values: pd.Series) -> list[str]:
    """Return mean and standard deviation as two cells."""
    return [f"{values.mean():.2f}", f"{values.std():.2f}" if len(values) > 1 else ""] if len(values) else ["", ""]
