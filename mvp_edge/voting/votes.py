"""The vote of the nearest tasks on what to keep (Algorithm 1, lines 2-3; Equation 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mvp_edge.config import Vote
from mvp_edge.models.plan import KeepPlan, make_plan


def count_votes(ballots: Sequence[KeepPlan], weights: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """Count how many ballots keep each unit.

    Args:
        ballots: Plans of the nearest tasks, all for the same base model.
        weights: Weight of each ballot; 1 if not given.

    Returns:
        Votes `(width,)` by group name.
    """
    if not ballots:
        raise ValueError("a vote needs at least one ballot")
    votes = {name: np.zeros(width) for name, width in ballots[0].widths.items()}
    for ballot, weight in zip(ballots, weights or [1.0] * len(ballots), strict=True):
        for group in ballot.groups:
            votes[group.name][list(group.kept)] += weight
    return votes


def select_units(
    votes: Mapping[str, np.ndarray],
    counts: Mapping[str, int],
    *,
    vote: Vote,
    temperature: float,
    tie_break: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> KeepPlan:
    """Choose `counts[group]` units of every group by their votes.

    Args:
        votes: Votes `(width,)` by group.
        counts: Units to keep by group.
        vote: `sample` draws without replacement with p(k) proportional to exp(votes(k) / temperature); adding Gumbel
            noise and taking the largest does that exactly. `top` is its limit for temperature 0.
        temperature: Tau of Equation 1; above 0.
        tie_break: Importance `(width,)` of the base model's units, which decides between units of equal votes.
        rng: Source of the draws.

    References:
        Equation 1; Kool et al., "Stochastic Beams and Where to Find Them", 2019 (Gumbel top-k).
    """
    kept = {}
    for name, count in votes.items():
        noise = rng.gumbel(size=len(count)) * temperature if vote == "sample" else np.zeros(len(count))
        order = np.lexsort((np.arange(len(count)), -tie_break[name], -(count + noise)))
        kept[name] = order[: counts[name]]
    return make_plan({name: len(v) for name, v in votes.items()}, kept)
