"""Line 1 of Algorithm 1: the zoo's members ranked by the similarity of their tasks, and those that vote."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mvp_edge.config import Similarity, VoteConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.errors import ZooError
from mvp_edge.core.progress import Stage
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import ranking
from mvp_edge.names.tasks import Task
from mvp_edge.pruners.units import target_counts
from mvp_edge.training.loop import predict
from mvp_edge.voting.leep import leep
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo

RANKING_IMAGES = 256
PREFILTER = 64
ROUNDING = 0.01  # of all units: counts that are multiples of channels may exceed the ratio a member was made at


@dataclass(frozen=True)
class Neighbour:
    """A member and the similarity of its task; higher is nearer.

    Attributes:
        info: The member.
        similarity: At most 0 by LEEP, from 0 to 1 by WordNet.
        measure: Which of the two it is.
    """

    info: MemberInfo
    similarity: float
    measure: Similarity = "leep"


@dataclass(frozen=True, eq=False)
class LeepInputs:
    """What LEEP compares members by: their predictions for a sample of images.

    Attributes:
        prunable: The zoo's base model.
        images: Training images of the task.
        device: Computes the predictions.
        seed: Of the sample.
    """

    prunable: PrunableModel
    images: ImageSet
    device: torch.device
    seed: int


def rank(
    zoo: Zoo,
    task: Task,
    config: VoteConfig,
    inputs: LeepInputs | None = None,
    *,
    stage: Stage | None = None,
    exclude: frozenset[str] = frozenset(),
    members: Collection[str] | None = None,
    prefilter: int = PREFILTER,
) -> list[Neighbour]:
    """Return the zoo's generalists and the specialists that are nearest by WordNet, nearest first.

    WordNet needs the catalogue only. LEEP needs one forward pass of each of these members over a sample of the task's
    images. Without images, `auto` is WordNet.

    Args:
        zoo: Holds the members.
        task: With synsets.
        config: `similarity` and `voters` matter here.
        inputs: Only LEEP needs them.
        stage: Progress.
        exclude: Ids of tasks that must not be used, such as the task itself in a benchmark.
        members: Ids of members to rank; None ranks all of the zoo.
        prefilter: How many of the specialists nearest by WordNet; without LEEP at least `config.neighbours`.

    Raises:
        ZooError: the zoo has no member of the wanted kind, or one is damaged.
    """
    catalogue = zoo.catalogue()
    able = np.ones(len(catalogue.ids), bool)
    if config.voters not in ("auto", "any"):
        able = catalogue.generalist == (config.voters == "generalist")
    if members is not None:
        able = able & [member in members for member in catalogue.ids]
    if exclude:
        able = able & [catalogue.tasks[i].id not in exclude for i in range(len(catalogue.ids))]
    if not able.any():
        wanted = "members" if config.voters in ("auto", "any") else f"{config.voters} members"
        raise ZooError(f"zoo {zoo.name} has no {wanted} to vote; add some with: mvp-edge zoo build")
    similar = ranking.rank(task, catalogue.tasks)
    order = np.argsort(-similar, kind="stable")  # of equal ones the first by id
    order = order[able[order]]
    generalists: list[int] = order[catalogue.generalist[order]].tolist()
    specialists: list[int] = order[~catalogue.generalist[order]].tolist()
    if similarity_used(config, None if inputs is None else inputs.images) == "wordnet":
        nearest = [*generalists, *specialists[: max(prefilter, config.neighbours)]]
        pairs = [Neighbour(zoo.info(catalogue.ids[i]), float(similar[i]), "wordnet") for i in nearest]
    else:
        if inputs is None:
            raise ValueError("LEEP needs images and the base model")
        chosen = [zoo.info(catalogue.ids[i]) for i in (*generalists, *specialists[:prefilter])]
        drawn = rng(inputs.seed, "ranking").permutation(len(inputs.images))
        sample = inputs.images.subset(drawn[:RANKING_IMAGES])
        pairs = []
        for info, probabilities in predictions(zoo, inputs.prunable, chosen, sample.images, inputs.device):
            pairs.append(Neighbour(info, leep(probabilities, sample.labels)))
            if stage is not None:
                stage.advance()
    return sorted(pairs, key=lambda n: (-n.similarity, n.info.id))


def similarity_used(config: VoteConfig, images: ImageSet | None) -> Similarity:
    """Return the similarity that ranks: `auto` is LEEP where there are images."""
    if config.similarity != "auto":
        return config.similarity
    return "wordnet" if images is None else "leep"


def select_voters(
    ranked: Sequence[Neighbour],
    prunable: PrunableModel,
    task: Task,
    config: VoteConfig,
    counts: Mapping[str, int] | None = None,
) -> list[Neighbour]:
    """Return the voters: the generalist that votes alone, or the nearest members; arguments as for `sole_voter`."""
    return sole_voter(ranked, prunable, task, config, counts) or list(ranked[: config.neighbours])


def sole_voter(
    ranked: Sequence[Neighbour],
    prunable: PrunableModel,
    task: Task,
    config: VoteConfig,
    counts: Mapping[str, int] | None = None,
) -> list[Neighbour]:
    """Return the generalist that votes alone, if there is one; similarity does not matter for that.

    It knows all classes of the task. It is the largest inside the requested counts, so that it can be widened to them
    and compute the same at first; where none is inside, it is the smallest around them. Generalists vote alone only
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
    """Return the generalists that know all classes of a task, in the order of `MemberInfo.sort_key`."""
    return sorted((n for n in ranked if n.info.covers(task)), key=lambda n: n.info.sort_key)


def vote_weights(neighbours: Sequence[Neighbour], config: VoteConfig) -> list[float]:
    """Return the weight of each neighbour's vote: 1, or its similarity for `smsp` if any is above 0.

    LEEP is a mean log probability; its exponential, the typical probability of the right class, lies in (0, 1] as
    WordNet's similarity does.
    """
    alike = [math.exp(n.similarity) if n.measure == "leep" else n.similarity for n in neighbours]
    return alike if config.method == "smsp" and any(alike) else [1.0] * len(neighbours)


def ready_made(ranked: Sequence[Neighbour], task: Task, keep: float) -> Neighbour:
    """Return the largest generalist within a ratio that knows all classes of the task: it works without training.

    Args:
        ranked: Members.
        task: What the model is for.
        keep: Fraction of all units; a member may have `ROUNDING` more.

    Raises:
        ZooError: there is none; the message says what to do instead.
    """
    able = knowing(ranked, task)
    if not able:
        raise ZooError("no member of the zoo knows all classes of this task; add images with --data DIR")
    fitting = [n for n in able if n.info.plan.achieved <= keep + ROUNDING]
    if not fitting:
        raise ZooError(
            f"--keep {keep:g} is below {able[-1].info.plan.achieved:.3f}, the smallest member that knows these "
            "classes; keep more, or add images with --data DIR"
        )
    return fitting[0]


def predictions(
    zoo: Zoo, prunable: PrunableModel, infos: Sequence[MemberInfo], images: Tensor, device: torch.device
) -> Iterator[tuple[MemberInfo, Tensor]]:
    """Yield each member with its class probabilities `(N, Z)` for uint8 images `(N, 3, H, W)`, in no fixed order."""
    alike: dict[tuple[int, ...], list[MemberInfo]] = defaultdict(list)
    for info in infos:
        alike[(len(info.task.classes), *info.plan.counts.values())].append(info)
    for group in alike.values():
        # Members of one shape share one network: only their tensors are exchanged.
        model = on_device(zoo.load(group[0]).network(prunable), device)
        for info in group:
            zoo.load(info).load_into(model)
            yield info, predict(model, images, prunable.base, device).softmax(1)
