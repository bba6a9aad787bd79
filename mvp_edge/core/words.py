"""Lists of names in messages, cut short."""

from __future__ import annotations

from collections.abc import Sequence


def in_short(parts: Sequence[str], most: int = 10, separator: str = ", ") -> str:
    """Return the parts of a message in one line: all of them, or the first few and how many more there are."""
    more = len(parts) - most
    return separator.join(parts[:most]) + (f"{separator.strip(', ')} and {more:,} more" if more > 0 else "")
