"""When the command was typed, as nearly as its process knows: the user waits for the imports as well."""

from __future__ import annotations

import time

_marks: list[float] = []


def mark() -> None:
    """Say that the command begins now."""
    _marks[:] = [time.perf_counter()]


def began() -> float | None:
    """Return when it did, by `time.perf_counter`; None if nobody has typed it, as in a test or a notebook."""
    return _marks[0] if _marks else None
