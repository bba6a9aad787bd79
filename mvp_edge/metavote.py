"""Meta-Vote Pruning up to the first training step: rank the zoo, vote, slice, average (Algorithm 1, lines 1-8)."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvp_edge.config import Similarity, VoteConfig
from mvp_edge.data import ImageSet
from mvp_edge.errors import ZooError
from mvp_edge.networks.heads import ridge_head, shared_rows
from mvp_edge.networks.models import Base, head_name, head_of, set_head
from mvp_edge.plan import KeepPlan
from mvp_edge.pruners import base_importance
from mvp_edge.pruners.oneshot import target_counts
from mvp_edge.runtime import SilentProgress, Stage, on_device, rng
from mvp_edge.similarity import wordnet
from mvp_edge.similarity.leep import leep
from mvp_edge.surgery.averaging import Voter, average
from mvp_edge.surgery.groups import GroupTable, find_groups
from mvp_edge.surgery.growing import grows_silently, silence, widen_head
from mvp_edge.surgery.slicing import faithfulness, sliced_copy
from mvp_edge.tasks import Task
from mvp_edge.training.loop import predict, reestimate_norms
from mvp_edge.voting import count_votes, elect
from mvp_edge.zoo import Member, MemberInfo, Zoo

RANKING_IMAGES = 256
PREFILTER = 64
ROUNDING = 0.01  # of all units: a member cut to whole lanes may have a little more than the ratio it was made at


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


@dataclass(frozen=True, eq=False)
class Trunk:
    """A base model with what is derived from it once: groups, head, importance of its units."""

    base: Base
    model: nn.Module
    table: GroupTable
    head: str

    @staticmethod
    def of(base: Base, model: nn.Module) -> Trunk:
        """Analyse a base model.

        Raises:
            PlanError: it cannot be sliced.
        """
        head = head_name(model)
        return Trunk(base, model, find_groups(model, base.input_size, head, base.embedding), head)

    def state_of(self, model: nn.Module) -> dict[str, Tensor]:
        """Return a sliced model's tensors as they are stored in a zoo."""
        return {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}

    def headless(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors without those of the classifier, whose rows mean other classes in every member."""
        return {k: v for k, v in state.items() if not k.startswith(f"{self.head}.")}

    def restore(self, member: Member) -> nn.Module:
        """Return a member as a network with its own head."""
        model = sliced_copy(self.model, self.table, member.info.plan)
        weight = member.state[f"{self.head}.weight"]
        set_head(model, nn.Linear(weight.shape[1], weight.shape[0]))
        model.load_state_dict(member.state, strict=False)
        return model.eval()

    def verify_slicing(self, plan: KeepPlan) -> float:
        """Return how far the sliced model is from the masked one on random images; see `faithfulness`.

        Raises:
            PlanError: too far, or the sliced model does not run.
        """
        images = torch.randn(2, 3, *self.base.input_size, generator=torch.Generator().manual_seed(0))
        return faithfulness(copy.deepcopy(self.model).to("cpu"), self.table, plan, images)


def rank(
    zoo: Zoo,
    trunk: Trunk | None,
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
    to the most promising narrow members. Without images, `auto` is WordNet.

    Args:
        zoo: Where the members are.
        trunk: The zoo's base model; only LEEP needs it.
        task: With synsets.
        images: Training images of the task, if there are any; only LEEP needs them.
        config: `similarity` and `voters` matter here.
        device: Where to compute LEEP.
        seed: Of the sample of images.
        stage: Progress.
        exclude: Ids of tasks that must not be used, such as the task itself in a benchmark.
        only: Ids of the members to look at; all if there are none.
        prefilter: How many of the narrow members nearest by WordNet LEEP looks at.

    Raises:
        ZooError: the zoo has no member of the wanted breadth, or one is damaged.
    """
    infos = [i for i in zoo.infos() if config.voters in ("auto", "any", i.breadth) and i.task.id not in exclude]
    infos = [i for i in infos if not only or i.id in only]
    if not infos:
        wanted = "members" if config.voters in ("auto", "any") else f"{config.voters} members"
        raise ZooError(f"zoo {zoo.name} has no {wanted} to vote; add some with: mvp-edge zoo build")
    words = wordnet.rank(task, [i.task for i in infos])
    if similarity_used(config, images) == "wordnet":
        pairs = [Neighbour(i, s, "wordnet") for i, s in zip(infos, words, strict=True)]
    else:
        if images is None or trunk is None:
            raise ValueError("LEEP needs images and the base model")
        nearest = sorted(zip(words, infos, strict=True), key=lambda p: (-p[0], p[1].id))
        chosen = [i for _, i in nearest if i.breadth == "broad"]
        chosen += [i for _, i in nearest if i.breadth == "narrow"][:prefilter]
        pairs = _leep_all(zoo, trunk, chosen, images, device, seed, stage or SilentProgress())
    return sorted(pairs, key=lambda n: (-n.similarity, n.info.id))


def similarity_used(config: VoteConfig, images: ImageSet | None) -> Similarity:
    """Return what decides who is near."""
    if config.similarity != "auto":
        return config.similarity
    return "wordnet" if images is None else "leep"


def _leep_all(
    zoo: Zoo, trunk: Trunk, infos: Sequence[MemberInfo], images: ImageSet, device: torch.device, seed: int, stage: Stage
) -> list[Neighbour]:
    order = rng(seed, "ranking").permutation(len(images))[:RANKING_IMAGES]
    sample = images.subset(order)
    alike: dict[tuple[int, ...], list[MemberInfo]] = defaultdict(list)
    for info in infos:
        alike[(len(info.task.classes), *info.plan.counts.values())].append(info)
    found = []
    for group in alike.values():
        # Members of one shape take turns in one network: only their tensors are exchanged.
        model = on_device(trunk.restore(zoo.load(group[0])), device)
        for info in group:
            model.load_state_dict(zoo.load(info).state, strict=False)
            logits = predict(model, sample.images, trunk.base, device)
            found.append(Neighbour(info, leep(logits.softmax(1), sample.labels)))
            stage.advance()
    return found


def electorate(
    ranked: Sequence[Neighbour], trunk: Trunk, task: Task, config: VoteConfig, counts: Mapping[str, int] | None = None
) -> list[Neighbour]:
    """Return who votes: the broad member that votes alone, or the nearest members; arguments as for `sole_voter`."""
    return sole_voter(ranked, trunk, task, config, counts) or list(ranked[: config.neighbours])


def sole_voter(
    ranked: Sequence[Neighbour], trunk: Trunk, task: Task, config: VoteConfig, counts: Mapping[str, int] | None = None
) -> list[Neighbour]:
    """Return the broad member that votes alone, if there is one; how near members are does not matter for that.

    It knows the whole task, and is the largest that fits inside the counts asked for, so that it can grow to them and
    compute the same at first; where none fits inside, it is the smallest around them. Only under `auto` and `broad` may
    broad members vote alone.

    Args:
        ranked: Members.
        trunk: The base model.
        task: What the model is for.
        config: `voters`, `method` and `keep` matter here.
        counts: Units to keep by group; those of the ratio if there are none.
    """
    if config.voters not in ("auto", "broad") or config.method != "mvp":
        return []
    wanted = counts or target_counts(trunk.table, config.keep, config.align)
    broad = knowing(ranked, task)
    inside = [n for n in broad if all(c <= wanted[g] for g, c in n.info.plan.counts.items())]
    around = [n for n in broad if all(c >= wanted[g] for g, c in n.info.plan.counts.items())]
    return inside[:1] or sorted(around, key=lambda n: n.info.plan.achieved)[:1]


def knowing(ranked: Sequence[Neighbour], task: Task) -> list[Neighbour]:
    """Return the broad members that know all classes of a task, in the order of `MemberInfo.standing`."""
    return sorted((n for n in ranked if n.info.covers(task)), key=lambda n: n.info.standing)


def vote_weights(neighbours: Sequence[Neighbour], config: VoteConfig) -> list[float]:
    """Return what each neighbour's vote counts: one, or its similarity for `smsp` if any has one above 0.

    LEEP is a mean log probability; its exponential, the typical probability of the right class, lies in (0, 1] as
    WordNet's similarity does.
    """
    alike = [math.exp(n.similarity) if n.measure == "leep" else n.similarity for n in neighbours]
    return alike if config.method == "smsp" and any(alike) else [1.0] * len(neighbours)


def ready_made(ranked: Sequence[Neighbour], task: Task, keep: float) -> Neighbour:
    """Return the largest broad member within a ratio that knows the whole task: it works without training.

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


def vote(
    zoo: Zoo, trunk: Trunk, neighbours: Sequence[Neighbour], config: VoteConfig, counts: Mapping[str, int], seed: int
) -> tuple[KeepPlan, list[Member]]:
    """Let neighbours vote on `counts[group]` units to keep; return the plan and the voters with their tensors.

    A broad member that votes alone is followed also where votes are sampled: its units were trained together.

    References:
        Algorithm 1, lines 2-3; Equation 1.
    """
    alone = len(neighbours) == 1 and neighbours[0].info.breadth == "broad"
    plan = elect(
        count_votes([n.info.plan for n in neighbours], vote_weights(neighbours, config)),
        counts,
        vote="top" if alone else config.vote,
        temperature=config.temperature,
        tie_break=base_importance(trunk.model, trunk.table),
        rng=rng(seed, "vote"),
    )
    return plan, [zoo.load(n.info) for n in neighbours]


def stays_base(plan: KeepPlan, voters: Sequence[Member]) -> bool:
    """Say whether the base model's own weights stay: every unit is kept, and not by a lone voter that has them all."""
    return plan.is_full and not (len(voters) == 1 and voters[0].info.plan.is_full)


def assemble(
    trunk: Trunk, plan: KeepPlan, voters: Sequence[Member], task: Task, data: ImageSet | None, *, device: torch.device
) -> nn.Module:
    """Return the sliced network with the voters' mean weights and a new head, in evaluation mode on `device`.

    The head is fitted to the task's images in closed form, after the norm statistics have been re-estimated on them; a
    single voter that knows all classes and whose units are all kept gives its rows and keeps its statistics, and needs
    no images. Where smaller networks vote for every unit, the base model's own weights stay: what they have learnt
    suits their few units only.

    References:
        Algorithm 1, lines 4-6.
    """
    model = sliced_copy(trunk.model, trunk.table, plan)
    whole = stays_base(plan, voters)
    ballots = [] if whole else [Voter(v.info.plan, trunk.headless(v.state)) for v in voters]
    model.load_state_dict(average(trunk.table, plan, model.state_dict(), ballots))
    model = on_device(model, device).eval()
    head = None
    if whole:
        classifier = head_of(trunk.model)
        head = _known_rows(task, wordnet.resolve_names(trunk.base.classes), classifier)
    elif len(voters) == 1 and grows_silently(trunk.table, plan, voters[0].info.plan):
        # What the plan adds to the only voter's units is silent at first: the network starts as the voter itself.
        model.load_state_dict(silence(trunk.table, plan, voters[0].info.plan, model.state_dict(), trunk.head))
        classifier = head_of(trunk.restore(voters[0]))
        rows = _known_rows(task, voters[0].info.task, classifier)
        head = rows and widen_head(rows, trunk.table, plan, voters[0].info.plan, trunk.head)
    if head is None:
        if data is None:
            raise ValueError("a head that no voter gives is fitted to images")
        if not whole:
            reestimate_norms(model, data.images, trunk.base, device)
        head = ridge_head(model, data, trunk.base, device)
    set_head(model, head.to(device))
    return model


def _known_rows(task: Task, known: Task, classifier: nn.Linear) -> nn.Linear | None:
    return None if task.unknown_to(known) else shared_rows(task.names, known.names, classifier)
