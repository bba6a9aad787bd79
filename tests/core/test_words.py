"""Lists of names in messages, cut short."""

from __future__ import annotations

from mvp_edge.core.words import in_short


def test_few_parts_are_all_told() -> None:
    assert in_short([]) == ""
    assert in_short(["a", "b"], 2) == "a, b"


def test_of_many_parts_the_first_are_told_and_how_many_more_there_are() -> None:
    assert in_short(["a", "b", "c"], 2) == "a, b and 1 more"
    assert in_short(["a", "b", "c"], 1, "; ") == "a; and 2 more"
    assert in_short([str(i) for i in range(2000)]).endswith("8, 9 and 1,990 more")
