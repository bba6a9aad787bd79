"""Similarity groups: the members of a zoo by how near they are to a task (Section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.setting import Setting
from mvp_edge.config import Similarity, VoteConfig
from mvp_edge.voting.neighbours import Neighbour, rank

GROUPS = 5


def similarity_groups(scores: Sequence[float], groups: int = GROUPS) -> list[int]:
    """Return the group of each score, 1 for the nearest: equal intervals between the least and the greatest score.

    Example:
        >>> similarity_groups([-1.0, -0.5, -0.6, -0.9, -0.7])
        [5, 1, 1, 5, 3]
    """
    if not scores:
        return []
    least, width = min(scores), (max(scores) - min(scores)) / groups
    if width == 0:
        return [1] * len(scores)
    # The small term keeps scores that lie on a border, up to rounding, in the upper interval, which they open.
    return [groups - min(groups - 1, int((s - least) / width + 1e-9)) for s in scores]


def all_ranked(setting: Setting, similarity: Similarity) -> list[Neighbour]:
    """Return all specialists, nearest first, without WordNet's limit on those that LEEP looks at."""
    config = VoteConfig(voters="specialist", similarity=similarity)
    own = frozenset([setting.task.id])
    return rank(
        setting.zoo, setting.prunable, setting.task, setting.train, config, device=setting.device, seed=setting.seed,
        exclude=own, prefilter=len(setting.zoo.ids()),
    )  # fmt: skip


def grouped(ranked: Sequence[Neighbour], groups: int = GROUPS) -> dict[int, list[Neighbour]]:
    """Return the members of every similarity group, nearest first; a group may be empty."""
    found: dict[int, list[Neighbour]] = {g: [] for g in range(1, groups + 1)}
    for neighbour, group in zip(ranked, similarity_groups([n.similarity for n in ranked], groups), strict=True):
        found[group].append(neighbour)
    return found
