"""The main job by votes, from a class list to a compact model and its report, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mvp_edge.config import PruneConfig
from mvp_edge.core.device import on_host, resolve_device
from mvp_edge.core.progress import Progress, Stopwatch
from mvp_edge.data import ImageSet
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.widening import can_widen
from mvp_edge.names.tasks import Task
from mvp_edge.prune.accuracy import ready_made_sizes, stored_accuracy
from mvp_edge.prune.deliver import Delivered, Outcome, deliver
from mvp_edge.prune.fit import Unseen, fine_tune, hold_out, is_low_data
from mvp_edge.prune.pictures import Pictures, open_data, read_pictures
from mvp_edge.prune.request import check_place
from mvp_edge.prune.size import Sizing, ratio_decides, ready_made_size, trained_size
from mvp_edge.report import Report
from mvp_edge.voting.meta_vote import assemble, stays_base, vote
from mvp_edge.voting.neighbours import LeepInputs, Neighbour, rank, select_voters, similarity_used, sole_voter
from mvp_edge.zoo.member import Member, MemberKind
from mvp_edge.zoo.store import Zoo, open_zoo

FAR_WORDNET = 0.6
# By kind of the nearest member, relative to the LEEP of one that tells nothing of the classes. Of 40 rankings of the
# zoo's own data set 1 and 3 are farther, of 30 of other data sets 30 and 22 (recorded with how LEEP ranks).
FAR_LEEP: dict[MemberKind, float] = {"generalist": 0.4, "specialist": 0.67}
NEAR = 0.8  # of the requested keep: a warning is given for a member with less


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of a run, checked; without `--data` there are no images."""

    task: Task
    zoo: Zoo
    device: torch.device
    warnings: Sequence[str] = ()
    pictures: Pictures | None = None
    source: str | None = None

    @property
    def train(self) -> ImageSet | None:
        """Training images, if there are any."""
        return None if self.pictures is None else self.pictures.train


@dataclass(frozen=True, eq=False)
class Prepared:
    """Inputs, the base model, and the zoo's members, nearest first."""

    inputs: Inputs
    prunable: PrunableModel
    ranked: Sequence[Neighbour]


def prepare(config: PruneConfig, task: Task, progress: Progress, clock: Stopwatch) -> Prepared:
    """Read the inputs and rank the zoo: this is shared by models of several sizes.

    Raises:
        MvpEdgeError: an input cannot be used.
    """
    with clock.time("load"):
        inputs = read_inputs(config, task, progress)
        prunable = PrunableModel.of(inputs.zoo.base, inputs.zoo.load_base())
        alone: list[Neighbour] = []
        if inputs.train is not None and ratio_decides(config):
            # A generalist that votes alone does so at any similarity, so that no other member needs to be ranked.
            generalists = [Neighbour(i, 0.0) for i in inputs.zoo.generalists()]
            alone = sole_voter(generalists, prunable, inputs.task, config.vote)
    with clock.time("rank"), progress.stage("Ranking the zoo") as stage:
        compared = None
        if inputs.train is not None:
            compared = LeepInputs(prunable, inputs.train, inputs.device, config.seed)
        members = [n.info.id for n in alone] or None
        ranked = rank(inputs.zoo, inputs.task, config.vote, compared, stage=stage, members=members)
    return Prepared(inputs, prunable, ranked)


def read_inputs(config: PruneConfig, task: Task, progress: Progress) -> Inputs:
    """Read and check the zoo, the device and the images.

    Raises:
        MvpEdgeError: one of them cannot be used.
    """
    device = resolve_device(config.device)
    zoo = open_zoo(config.zoo)
    if config.data is None:
        return Inputs(task, zoo, device)
    if config.add_to_zoo:
        zoo.require_writable()
    source = open_data(config)
    pictures = read_pictures(source, task.names, zoo.base.input_size, progress)
    return Inputs(task, zoo, device, pictures.warnings, pictures, source.name)


def size(prepared: Prepared, config: PruneConfig, progress: Progress) -> Sizing:
    """Decide how many units of each group the model keeps; without images, which member it is.

    Raises:
        BudgetError: no sub-network, or no member where there are no images, meets the budget.
        ZooError: no member is small enough for the ratio.
    """
    decide = ready_made_size if prepared.inputs.train is None else trained_size
    return decide(prepared.prunable, prepared.ranked, prepared.inputs.task, config, progress)


def make_voted(
    prepared: Prepared, sizing: Sizing, config: PruneConfig, directory: Path, progress: Progress, clock: Stopwatch
) -> Report:
    """Make one model, write it with its report, and add it to the zoo if that is wanted.

    Raises:
        MvpEdgeError: see `make`, or the zoo cannot be written.
    """
    made = make(prepared, sizing, config, directory, progress, clock)
    if config.add_to_zoo:  # last, so that a run that fails leaves neither a member nor a report that names one
        check_place(config)
        prepared.inputs.zoo.add(made.member, dict(made.state))
    return made.report


def make(
    prepared: Prepared, sizing: Sizing, config: PruneConfig, directory: Path, progress: Progress, clock: Stopwatch
) -> Delivered:
    """Vote, slice, fine-tune and deliver one model into a directory.

    Raises:
        MvpEdgeError: the model cannot be sliced faithfully or exported, or a voter is damaged.
    """
    inputs, prunable, ranked = prepared.inputs, prepared.prunable, prepared.ranked
    zoo, task, pictures, train = inputs.zoo, inputs.task, inputs.pictures, inputs.train
    test = None if pictures is None else pictures.test
    similarity = similarity_used(config.vote, train)
    with clock.time("vote"):
        if sizing.member is not None:
            voters = [sizing.member]
        else:
            voters = select_voters(ranked, prunable, task, config.vote, sizing.counts)
        plan, members = vote(zoo, prunable, voters, config.vote, sizing.counts, config.seed)
    works = works_untrained(prunable, plan, members, task)
    low_data, held = train is not None and is_low_data(train, config, works=works), None
    if train is not None:
        val = None if pictures is None else pictures.val
        train, held = hold_out(train, val, config, low_data=low_data)
    with clock.time("slice"), progress.stage("Slicing"):
        sliced_diff = prunable.verify_slicing(plan)
        model = assemble(prunable, plan, members, task, train, device=inputs.device)
    tuned, before = fine_tune(
        model, prunable, train, held, test, config, low_data=low_data,
        device=inputs.device, progress=progress, clock=clock,
    )  # fmt: skip
    unseen = tuned.unseen if train is None or held is None else Unseen(held, train)
    far = far_warning(voters, task, similarity)
    outcome = Outcome(
        task=task,
        zoo=zoo,
        prunable=prunable,
        train=train,
        unseen=unseen,
        test=test,
        pictures=pictures,
        data_sha256=None if inputs.train is None else inputs.train.sha256,
        held_out=0 if inputs.train is None or train is None else len(inputs.train) - len(train),
        source=inputs.source,
        stored=stored_accuracy(zoo, task, members[0].info) if train is None else None,
        sizes=ready_made_sizes(zoo, task, ranked) if train is None else (),
        voters=voters,
        similarity=similarity,
        requested=sizing.requested,
        plan=plan,
        model=on_host(model).eval(),
        sliced_diff=sliced_diff,
        tuned=tuned,
        before=before,
        device=inputs.device,
        warnings=[
            *inputs.warnings, *([far] if far else []), *size_warnings(plan, members, config), *tuned.warnings
        ],
    )  # fmt: skip
    return deliver(directory, outcome, config, clock, progress)


def works_untrained(prunable: PrunableModel, plan: KeepPlan, members: Sequence[Member], task: Task) -> bool:
    """Return whether the network works untrained: it is one member that knows the classes, or starts as that member."""
    alone = members[0].info
    return len(members) == 1 and alone.knows(task) and can_widen(prunable.table, plan, alone.plan)


def far_warning(voters: Sequence[Neighbour], task: Task, similarity: str) -> str | None:
    """Return a warning if even the nearest task is far from this one; none if that member knows all of its classes."""
    best, far = voters[0].similarity, FAR_LEEP[voters[0].info.kind]
    near = FAR_WORDNET if similarity == "wordnet" else -far * math.log(len(task.classes))
    if best >= near or voters[0].info.covers(task):
        return None
    return (
        f"even the nearest task in the zoo is far from this one ({similarity} {best:.2f}); expect lower accuracy than "
        "usual. Models made with --data DIR --add-to-zoo vote for later tasks near theirs"
    )


def size_warnings(plan: KeepPlan, members: Sequence[Member], config: PruneConfig) -> list[str]:
    """Return warnings if nothing is removed, or if a member delivered as it is is much smaller than requested."""
    warnings = []
    if stays_base(plan, members):
        warnings.append("every unit is kept: this is the base model itself, unchanged by the vote")
    if config.data is None and config.budget is None and plan.achieved < NEAR * config.vote.keep:
        warnings.append(
            f"{100 * config.vote.keep:g} % was requested, and the largest member that works without images has "
            f"{100 * plan.achieved:.1f} %; --data DIR makes models of any size"
        )
    return warnings
