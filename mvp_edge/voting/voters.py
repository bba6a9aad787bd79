"""Who of the ranked members votes, how much each vote counts, and which member works as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mvp_edge.config import VoteConfig
from mvp_edge.core.errors import ZooError
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.pruners.oneshot import target_counts
from mvp_edge.voting.neighbours import Neighbour

ROUNDING = 0.01  # of all units: a member cut to whole lanes may have a little more than the ratio it was made at


def select_voters(
    ranked: Sequence[Neighbour],
    prunable: PrunableModel,
    task: Task,
    config: VoteConfig,
    counts: Mapping[str, int] | None = None,
) -> list[Neighbour]:
    """Return who votes: the generalist that votes alone, or the nearest members; arguments as for `sole_voter`."""
    return sole_voter(ranked, prunable, task, config, counts) or list(ranked[: config.neighbours])


def sole_voter(
    ranked: Sequence[Neighbour],
    prunable: PrunableModel,
    task: Task,
    config: VoteConfig,
    counts: Mapping[str, int] | None = None,
) -> list[Neighbour]:
    """Return the generalist that votes alone, if there is one; how near members are does not matter for that.

    It knows the whole task, and is the largest that fits inside the counts asked for, so that it can grow to them and
    compute the same at first; where none fits inside, it is the smallest around them. Generalists vote alone only
    under `auto` and `generalist`.

    Args:
        ranked: Members.
        prunable: The base model.
        task: What the model is for.
        config: `voters`, `method` and `keep` matter here.
        counts: Units to keep by group; those of the ratio if there are none.
    """
    if config.voters not in ("auto", "generalist") or config.method != "mvp":
        return []
    wanted = counts or target_counts(prunable.table, config.keep, config.channel_multiple)
    generalist = knowing(ranked, task)
    inside = [n for n in generalist if all(c <= wanted[g] for g, c in n.info.plan.counts.items())]
    around = [n for n in generalist if all(c >= wanted[g] for g, c in n.info.plan.counts.items())]
    return inside[:1] or sorted(around, key=lambda n: n.info.plan.achieved)[:1]


def knowing(ranked: Sequence[Neighbour], task: Task) -> list[Neighbour]:
    """Return the generalists that know all classes of a task, in the order of `MemberInfo.standing`."""
    return sorted((n for n in ranked if n.info.covers(task)), key=lambda n: n.info.standing)


def vote_weights(neighbours: Sequence[Neighbour], config: VoteConfig) -> list[float]:
    """Return what each neighbour's vote counts: one, or its similarity for `smsp` if any has one above 0.

    LEEP is a mean log probability; its exponential, the typical probability of the right class, lies in (0, 1] as
    WordNet's similarity does.
    """
    alike = [math.exp(n.similarity) if n.measure == "leep" else n.similarity for n in neighbours]
    return alike if config.method == "smsp" and any(alike) else [1.0] * len(neighbours)


def ready_made(ranked: Sequence[Neighbour], task: Task, keep: float) -> Neighbour:
    """Return the largest generalist within a ratio that knows the whole task: it works without training.

    Args:
        ranked: Members.
        task: What the model is for.
        keep: Fraction of all units; a member may have `ROUNDING` more.

    Raises:
        ZooError: there is none; the message says what would do.
    """
    able = knowing(ranked, task)
    if not able:
        raise ZooError("no member of the zoo knows all classes of this task; add images with --data DIR")
    fitting = [n for n in able if n.info.plan.achieved <= keep + ROUNDING]
    if not fitting:
        raise ZooError(
            f"keep {keep:g} is less than the smallest member that works without images "
            f"({able[-1].info.plan.achieved:.3f}); keep more, or add images with --data DIR"
        )
    return fitting[0]
