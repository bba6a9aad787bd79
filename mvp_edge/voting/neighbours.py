"""Who is near: the members of a zoo by how much their tasks tell about a new one (Algorithm 1, line 1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mvp_edge.config import Similarity, VoteConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.errors import ZooError
from mvp_edge.core.progress import SilentProgress, Stage
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task
from mvp_edge.training.loop import predict
from mvp_edge.voting.leep import leep
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo

RANKING_IMAGES = 256
PREFILTER = 64


@dataclass(frozen=True)
class Neighbour:
    """A member and how near its task is; higher is nearer.

    Attributes:
        info: The member.
        similarity: At most 0 by LEEP, from 0 to 1 by WordNet.
        measure: By which of the two.
    """

    info: MemberInfo
    similarity: float
    measure: Similarity = "leep"


def rank(
    zoo: Zoo,
    prunable: PrunableModel | None,
    task: Task,
    images: ImageSet | None,
    config: VoteConfig,
    *,
    device: torch.device,
    seed: int,
    stage: Stage | None = None,
    exclude: frozenset[str] = frozenset(),
    only: frozenset[str] = frozenset(),
    prefilter: int = PREFILTER,
) -> list[Neighbour]:
    """Return the zoo's members, nearest first.

    LEEP needs one forward pass of each member over a sample of the task's images; WordNet, which needs none, limits it
    to the most promising specialists. Without images, `auto` is WordNet.

    Args:
        zoo: Where the members are.
        prunable: The zoo's base model; only LEEP needs it.
        task: With synsets.
        images: Training images of the task, if there are any; only LEEP needs them.
        config: `similarity` and `voters` matter here.
        device: Where to compute LEEP.
        seed: Of the sample of images.
        stage: Progress.
        exclude: Ids of tasks that must not be used, such as the task itself in a benchmark.
        only: Ids of the members to look at; all if there are none.
        prefilter: How many of the specialists nearest by WordNet LEEP looks at.

    Raises:
        ZooError: the zoo has no member of the wanted kind, or one is damaged.
    """
    infos = [i for i in zoo.infos() if config.voters in ("auto", "any", i.kind) and i.task.id not in exclude]
    infos = [i for i in infos if not only or i.id in only]
    if not infos:
        wanted = "members" if config.voters in ("auto", "any") else f"{config.voters} members"
        raise ZooError(f"zoo {zoo.name} has no {wanted} to vote; add some with: mvp-edge zoo build")
    words = wordnet.rank(task, [i.task for i in infos])
    if similarity_used(config, images) == "wordnet":
        pairs = [Neighbour(i, s, "wordnet") for i, s in zip(infos, words, strict=True)]
    else:
        if images is None or prunable is None:
            raise ValueError("LEEP needs images and the base model")
        nearest = sorted(zip(words, infos, strict=True), key=lambda p: (-p[0], p[1].id))
        chosen = [i for _, i in nearest if i.kind == "generalist"]
        chosen += [i for _, i in nearest if i.kind == "specialist"][:prefilter]
        pairs = _leep_all(zoo, prunable, chosen, images, device, seed, stage or SilentProgress())
    return sorted(pairs, key=lambda n: (-n.similarity, n.info.id))


def similarity_used(config: VoteConfig, images: ImageSet | None) -> Similarity:
    """Return what decides who is near."""
    if config.similarity != "auto":
        return config.similarity
    return "wordnet" if images is None else "leep"


def _leep_all(
    zoo: Zoo,
    prunable: PrunableModel,
    infos: Sequence[MemberInfo],
    images: ImageSet,
    device: torch.device,
    seed: int,
    stage: Stage,
) -> list[Neighbour]:
    order = rng(seed, "ranking").permutation(len(images))[:RANKING_IMAGES]
    sample = images.subset(order)
    alike: dict[tuple[int, ...], list[MemberInfo]] = defaultdict(list)
    for info in infos:
        alike[(len(info.task.classes), *info.plan.counts.values())].append(info)
    found = []
    for group in alike.values():
        # Members of one shape take turns in one network: only their tensors are exchanged.
        model = on_device(zoo.load(group[0]).network(prunable), device)
        for info in group:
            model.load_state_dict(zoo.load(info).state, strict=False)
            logits = predict(model, sample.images, prunable.base, device)
            found.append(Neighbour(info, leep(logits.softmax(1), sample.labels)))
            stage.advance()
    return found
