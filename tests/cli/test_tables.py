from __future__ import annotations

import pytest
from mvp_edge_cli.tables import versus  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize(
    ("ratio", "quartiles", "text"),
    [
        (1 / 51.6, (1 / 52, 1 / 51.2), "51.6\N{MULTIPLICATION SIGN} faster (51.2 to 52.0)"),
        (1.02, (1.01, 1.03), "1.02\N{MULTIPLICATION SIGN} slower (1.01 to 1.03)"),
        (1.2, None, "1.20\N{MULTIPLICATION SIGN} slower"),
        (None, None, "- (too busy)"),
    ],
)
def test_a_ratio_of_times_in_words(ratio: float | None, quartiles: tuple[float, float] | None, text: str) -> None:
    assert versus(ratio, quartiles) == text
