"""What the tests notice."""

from __future__ import annotations

from benchmarks.tables import frame, listed, mark


def mutations() -> str:
    """How many random mutations the tests notice, at first and after tests were added, and those that survive."""
    rows = frame("mutations")
    first, last = (rows.drop_duplicates(["seed", "number"], keep=kept) for kept in ("first", "last"))
    at_first, now = ((found.by != "").sum() for found in (first, last))
    text = f"Of {len(first)} mutations{mark(rows)} the tests noticed {at_first} ({at_first / len(first):.0%})."
    if now > at_first:
        text += f" With the tests that were then added they notice {now}."
    survived = last.assign(module=last.module.str.removeprefix("mvp_edge/"))[last.by == ""]
    if survived.empty:
        return text
    return f"{text}\n\n{listed(survived, {'survived': '`{module}`, line {line}', 'change': '`{change}`'})}"
