"""What the tests notice."""

from __future__ import annotations

from benchmarks.tables import frame, listed, mark


def mutations() -> str:
    """How many random mutations the tests noticed, and those that survived."""
    rows = frame("mutations")
    rows = rows.assign(module=rows.module.str.removeprefix("mvp_edge/"), commit=[r["commit"] for r in rows.record])
    survived = rows[rows.by == ""]
    noticed = len(rows) - len(survived)
    text = f"Of {len(rows)} mutations{mark(rows)} the tests noticed {noticed} ({noticed / len(rows):.0%})."
    if survived.empty:
        return text
    head = {"survived": "`{module}`, line {line} at {commit}", "change": "`{change}`"}
    return f"{text}\n\n{listed(survived, head)}"
