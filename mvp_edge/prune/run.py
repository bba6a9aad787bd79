"""The main job: from a class list to a compact model and its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvp_edge.config import PruneConfig
from mvp_edge.core.device import on_host, resolve_device
from mvp_edge.core.output import result_directory
from mvp_edge.core.progress import Progress, SilentProgress, Stopwatch
from mvp_edge.data import ImageSet, open_source, skipped_warnings
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.widening import can_widen
from mvp_edge.names.tasks import Task
from mvp_edge.prune.delivery import deliver, member_recipe, write_report
from mvp_edge.prune.known import known_score, known_sizes
from mvp_edge.prune.outcome import Outcome
from mvp_edge.prune.request import check_place, requested_task
from mvp_edge.prune.sizing import Sizing, Votes, choose_counts, largest_within, ratio_decides
from mvp_edge.prune.tuning import Tuned, tune, tune_warily
from mvp_edge.training.loop import predict
from mvp_edge.training.optimizers import resolve_fit
from mvp_edge.voting.meta_vote import assemble, stays_base, vote
from mvp_edge.voting.neighbours import (
    Neighbour,
    knowing,
    rank,
    ready_made,
    select_voters,
    similarity_used,
    sole_voter,
    vote_weights,
)
from mvp_edge.zoo.member import Member, MemberInfo, member_id
from mvp_edge.zoo.store import Zoo, open_zoo

FAR_WORDNET = 0.6
NEAR = 0.8  # of the keep that is asked for: a member with less gets a word
FAR_LEEP = 0.75  # of the LEEP of a member whose predictions say nothing about the task


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run works on, checked; without `--data` there are no images."""

    task: Task
    zoo: Zoo
    device: torch.device
    warnings: Sequence[str]
    train: ImageSet | None = None
    test: ImageSet | None = None
    source: str | None = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """Inputs, the base model, and the zoo's members, nearest first."""

    inputs: Inputs
    prunable: PrunableModel
    ranked: Sequence[Neighbour]


@dataclass(frozen=True, eq=False)
class Elected:
    """Who voted, the units that stay, the voters with their weights, and what the user should know of them."""

    neighbours: Sequence[Neighbour]
    plan: KeepPlan
    voters: Sequence[Member]
    warnings: Sequence[str]


@dataclass(frozen=True, eq=False)
class Made:
    """What `report.json` holds, and the model as a zoo would take it."""

    report: dict[str, Any]
    member: tuple[MemberInfo, dict[str, Tensor]]


def compress(
    config: PruneConfig, progress: Progress | None = None, began: float | None = None, task: Task | None = None
) -> dict[str, Any]:
    """Make a compact model for a task and write it with its report.

    Args:
        config: What to do.
        progress: Who is told how far it is.
        began: When the job began, by `time.perf_counter`, if that was earlier, as the command's imports take seconds.
        task: What `check_request` returned, if it was asked; the class list is not read again then.

    Returns:
        What `report.json` holds.

    Raises:
        MvpEdgeError: an input cannot be used; nothing is written then.
    """
    progress = progress or SilentProgress()
    clock = Stopwatch(began)
    check_place(config)
    prepared = prepare(config, progress, clock, task)
    with clock.time("size"):
        sizing = size(prepared, config, progress)
    with result_directory(config.out, lambda: check_place(config)) as directory:
        made = make(prepared, sizing, config, directory, progress, clock)
        if config.add_to_zoo:  # last, so that a run that fails leaves no member behind, nor a report that tells of one
            check_place(config)
            prepared.inputs.zoo.add(*made.member)
    return made.report


def prepare(config: PruneConfig, progress: Progress, clock: Stopwatch, task: Task | None = None) -> Prepared:
    """Read the inputs, but for a task that is given, and rank the zoo: what models of several sizes share.

    Raises:
        MvpEdgeError: an input cannot be used.
    """
    with clock.time("load"):
        inputs = read_inputs(config, progress, task)
        prunable = PrunableModel.of(inputs.zoo.base, inputs.zoo.load_base())
    with clock.time("rank"), progress.stage("Ranking the zoo") as stage:
        ranked = rank(
            inputs.zoo, prunable, inputs.task, inputs.train, config.vote, device=inputs.device, seed=config.seed,
            stage=stage, only=_decisive(inputs, prunable, config),
        )  # fmt: skip
    return Prepared(inputs, prunable, ranked)


def _decisive(inputs: Inputs, prunable: PrunableModel, config: PruneConfig) -> frozenset[str]:
    """Return the member that votes alone however near others are, which need not be asked then; none if all matter."""
    if inputs.train is None or not ratio_decides(config.vote, config.budget):
        return frozenset()
    everyone = [Neighbour(i, 0.0) for i in inputs.zoo.infos()]
    return frozenset(n.info.id for n in sole_voter(everyone, prunable, inputs.task, config.vote))


def size(prepared: Prepared, config: PruneConfig, progress: Progress) -> Sizing:
    """Decide how many units of each group the model keeps.

    Without images the model is a generalist as it is: the largest one within the budget or the ratio.

    Raises:
        BudgetError: no sub-network, or no member where there are no images, meets the budget.
        ZooError: no member is small enough for the ratio.
    """
    prunable, ranked, task = prepared.prunable, prepared.ranked, prepared.inputs.task
    able = [n.info.plan for n in knowing(ranked, task)]
    if prepared.inputs.train is None:
        if config.budget is None or not able:
            counts = ready_made(ranked, task, config.vote.keep).info.plan.counts
        else:
            counts = largest_within(prunable, config.budget, able, task.names, progress, config.input).counts
        return Sizing(counts, counts)
    voters = ranked[: config.vote.neighbours]
    initial = able if config.vote.voters in ("auto", "generalist") and config.vote.method == "mvp" else []
    votes = Votes([n.info.plan for n in voters], vote_weights(voters, config.vote), initial)
    return choose_counts(prunable, config.vote, config.budget, votes, task.names, progress, config.input)


def make(
    prepared: Prepared, sizing: Sizing, config: PruneConfig, directory: Path, progress: Progress, clock: Stopwatch
) -> Made:
    """Make one model and write it with its report into a directory.

    Raises:
        MvpEdgeError: the model cannot be sliced faithfully or exported, or a voter is damaged.
    """
    inputs, prunable = prepared.inputs, prepared.prunable
    with clock.time("vote"):
        elected = _elect(prepared, sizing, config)
    plan, voters = elected.plan, elected.voters
    with clock.time("slice"), progress.stage("Slicing"):
        sliced_diff = prunable.verify_slicing(plan)
        model = assemble(prunable, plan, voters, inputs.task, inputs.train, device=inputs.device)
    tuned, before = _train(model, prepared, elected, config, progress, clock)
    blind = inputs.train is None
    outcome = Outcome(
        task=inputs.task,
        test=inputs.test,
        known=known_score(inputs.zoo, inputs.task, voters[0].info) if blind else None,
        sizes=known_sizes(inputs.zoo, inputs.task, prepared.ranked) if blind else [],
        source=inputs.source,
        zoo=inputs.zoo.name,
        prunable=prunable,
        neighbours=elected.neighbours,
        similarity=similarity_used(config.vote, inputs.train),
        plan=plan,
        model=on_host(model).eval(),
        tuned=tuned,
        device=inputs.device,
        warnings=[*inputs.warnings, *elected.warnings, *tuned.warnings],
        requested=sizing.requested,
        digest=None if inputs.train is None else inputs.train.sha256,
        calibration=None if inputs.train is None else inputs.train.images,
        before=before,
    )
    report = deliver(directory, outcome, config, clock, progress)
    report["sliced_vs_masked_max_abs_diff"] = sliced_diff
    member = _as_member(outcome, report)
    if config.add_to_zoo and inputs.zoo.has(member.id):
        report["warnings"].append(f"member {member.id}, made of the same images with the same settings, stays as it is")
    elif config.add_to_zoo:
        report["added_member"] = member.id
    report["seconds"] = {k: round(v, 3) for k, v in clock.seconds.items()} | {"total": round(clock.total, 3)}
    write_report(directory, report, outcome, config)
    return Made(report, (member, prunable.state_of(outcome.model)))


def _elect(prepared: Prepared, sizing: Sizing, config: PruneConfig) -> Elected:
    """Let the nearest members vote on which units stay; without images one member stays as it is."""
    inputs, prunable, ranked = prepared.inputs, prepared.prunable, prepared.ranked
    task, blind, warnings = inputs.task, inputs.train is None, []
    if blind:  # what is not trained works only as it was made
        neighbours = [n for n in knowing(ranked, task) if n.info.plan.counts == sizing.counts][:1]
    else:
        neighbours = select_voters(ranked, prunable, task, config.vote, sizing.counts)
    if warning := far_warning(neighbours, task, similarity_used(config.vote, inputs.train)):
        warnings.append(warning)
    plan, voters = vote(inputs.zoo, prunable, neighbours, config.vote, sizing.counts, config.seed)
    if stays_base(plan, voters):
        warnings.append("every unit is kept: this is the base model itself, and no vote changed it")
    if blind and config.budget is None and plan.achieved < NEAR * config.vote.keep:
        warnings.append(
            f"{100 * config.vote.keep:g} % was asked for, and the largest member that works without images has "
            f"{100 * plan.achieved:.1f} %; any size can be made with --data DIR"
        )
    return Elected(neighbours, plan, voters, warnings)


def _train(
    model: nn.Module, prepared: Prepared, elected: Elected, config: PruneConfig, progress: Progress, clock: Stopwatch
) -> tuple[Tuned, Tensor | None]:
    """Fine-tune the network in place if there are images; return how, and its logits for the test images before it."""
    inputs, prunable = prepared.inputs, prepared.prunable
    recipe = resolve_fit(config.fit, "prune", prunable.model)
    tuned, before = Tuned(replace(recipe, iterations=0)), None
    if inputs.test is not None and recipe.iterations > 0:
        with clock.time("evaluate"):
            before = predict(model, inputs.test.images, prunable.base, inputs.device)
    with clock.time("fine_tune"):
        if inputs.train is not None:
            wary = config.schedule == "auto" and _works(elected, prunable, inputs.task)
            tuned = (tune_warily if wary else tune)(
                model, prunable.base, inputs.train, recipe, device=inputs.device, seed=config.seed, progress=progress
            )
    return tuned, None if tuned.untouched else before


def _works(elected: Elected, prunable: PrunableModel, task: Task) -> bool:
    """Return whether the network works untrained: it is one member that knows the classes, or begins as that."""
    alone = elected.voters[0].info
    return len(elected.voters) == 1 and alone.knows(task) and can_widen(prunable.table, elected.plan, alone.plan)


def read_inputs(config: PruneConfig, progress: Progress, task: Task | None = None) -> Inputs:
    """Read and check the class list, unless its task is given, the images, the zoo and the device.

    Raises:
        MvpEdgeError: one of them cannot be used.
    """
    task = task or requested_task(config)
    device = resolve_device(config.device)
    zoo = open_zoo(config.zoo)
    if config.data is None:
        return Inputs(task, zoo, device, [])
    if config.add_to_zoo:
        zoo.require_writable()
    source = open_source(config.data)
    sets = []
    for split in ("train", "test"):
        with progress.stage(f"Reading {split} images", source.count(task.names, split)) as stage:
            sets.append(source.load(task.names, split, zoo.base.input_size, stage.advance))
    train, test = sets
    warnings = [*source.notes, *skipped_warnings(train, test)]
    return Inputs(task, zoo, device, warnings, train, test, source.name)


def far_warning(neighbours: Sequence[Neighbour], task: Task, similarity: str) -> str | None:
    """Return a warning if even the nearest task tells little about this one; none if that member knows all of it."""
    best = neighbours[0].similarity
    near = FAR_WORDNET if similarity == "wordnet" else -FAR_LEEP * math.log(len(task.classes))
    if best >= near or neighbours[0].info.covers(task):
        return None
    return (
        f"even the nearest task in the zoo is far from this one ({similarity} {best:.2f}); expect less than usual. "
        "Models made with --data DIR --add-to-zoo vote for later tasks near theirs"
    )


def _as_member(outcome: Outcome, report: dict[str, Any]) -> MemberInfo:
    recipe = member_recipe(report)
    name, sha256 = member_id(outcome.task, recipe), outcome.prunable.base.sha256
    return MemberInfo(name, outcome.task, "specialist", outcome.plan, sha256, recipe, report["accuracy"]["top1"])
