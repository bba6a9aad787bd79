"""What the tests notice."""

from __future__ import annotations

from benchmarks.tables import frame, listed, mark


def mutations() -> str:
    """How many random mutations the tests noticed, at first and since, and those that survive."""
    rows = frame("mutations")
    rows = rows.assign(
        module=rows.module.str.removeprefix("mvp_edge/"),
        commit=[r["commit"] for r in rows.record],
        again=["again" in r["config"] for r in rows.record],
    )
    first, since = rows[~rows.again], rows[rows.again & (rows.by != "")]
    keys = set(zip(since.seed, since.number, strict=True))
    left = first[[r.by == "" and (r.seed, r.number) not in keys for r in first.itertuples()]]
    text = f"Of {len(first)} mutations{mark(rows)} the tests noticed {(first.by != '').sum()} when they were drawn"
    text += f", and {len(first) - len(left)} ({1 - len(left) / len(first):.0%}) with the tests written since."
    if left.empty:
        return text
    head = {"survives": "`{module}`, line {line} at {commit}", "change": "`{change}`"}
    return f"{text}\n\n{listed(left, head)}"
