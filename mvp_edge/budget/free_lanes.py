"""Filling lanes that cost nothing: which larger counts take no more time, found by timing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

LANES = (32, 16, 8, 4)  # channels; 4 is Arm's lane in single precision, 8 AVX2's, 16 AVX-512's
FREE = 0.01  # longer than the smaller network, relatively, counts as no time: about what timings repeat to
MOST_WIDTHS = 8  # a base with more different widths is filled in all groups at once only


def fill_free_lanes(
    counts: np.ndarray,
    widths: np.ndarray,
    unit_channels: np.ndarray,
    time_ms: Callable[[np.ndarray], float],
    allowed: Callable[[np.ndarray], bool],
) -> np.ndarray:
    """Raise counts `(G,)` to whole lanes wherever that costs no time.

    Longer lanes are tried first; first in all groups together, then in the groups of each width (a stage of a
    network) by themselves.

    Args:
        counts: What was asked for.
        widths: Units of the groups `(G,)`.
        unit_channels: Channels of one unit `(G,)`.
        time_ms: Times a network.
        allowed: Says whether a network keeps what other limits there are.

    Returns:
        Counts at least as large, of a network that takes at most 1 % longer, often less.
    """
    most = time_ms(counts) * (1 + FREE)
    for chosen in _parts(widths):
        for lane in LANES:
            units = lane // np.gcd(lane, unit_channels)
            larger = np.where(chosen, np.minimum(-(-counts // units) * units, widths), counts)
            if (larger == counts).all() or not allowed(larger):
                continue
            found = time_ms(larger)
            if found <= most:
                counts, most = larger, min(most, found * (1 + FREE))
                break
    return counts


def _parts(widths: np.ndarray) -> Iterator[np.ndarray]:
    yield np.ones(len(widths), bool)
    distinct = np.unique(widths)
    if 1 < len(distinct) <= MOST_WIDTHS:
        for width in distinct:
            yield widths == width
