"""The main job: from a class list to a compact model and its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvp_edge.config import PruneConfig
from mvp_edge.data import ImageSet, open_source
from mvp_edge.delivery import Outcome, deliver, write_report
from mvp_edge.errors import ConfigError
from mvp_edge.metavote import Neighbour, Trunk, assemble, electorate, knowing, rank, vote, vote_weights
from mvp_edge.output import check_output, result_directory
from mvp_edge.runtime import Progress, SilentProgress, Stopwatch, resolve_device
from mvp_edge.similarity import wordnet
from mvp_edge.sizing import Ballots, Sizing, choose_counts
from mvp_edge.slicing import faithfulness
from mvp_edge.tasks import Task, canonical, read_task
from mvp_edge.train import BatchSource, fit, make_optimizer, predict
from mvp_edge.zoo import MemberInfo, Zoo, member_id, open_zoo

FAR_WORDNET = 0.6
FAR_LEEP = 0.75  # of the LEEP of a member whose predictions say nothing about the task


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run works on, checked."""

    task: Task
    train: ImageSet
    test: ImageSet
    source: str
    zoo: Zoo
    device: torch.device
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Inputs, the base model, and the zoo's members, nearest first."""

    inputs: Inputs
    trunk: Trunk
    ranked: Sequence[Neighbour]


@dataclass(frozen=True, eq=False)
class Made:
    """What `report.json` holds, and the model as a zoo would take it."""

    report: dict[str, Any]
    member: tuple[MemberInfo, dict[str, Tensor]]


def compress(config: PruneConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Make a compact model for a task and write it with its report.

    Args:
        config: What to do.
        progress: Who is told how far it is.

    Returns:
        What `report.json` holds.

    Raises:
        MvpEdgeError: an input cannot be used; nothing is written then.
    """
    progress = progress or SilentProgress()
    clock = Stopwatch()
    check_output(config.out, force=config.force)
    prepared = prepare(config, progress, clock)
    with clock.time("size"):
        sizing = size(prepared, config, progress)
    with result_directory(config.out) as directory:
        made = make(prepared, sizing, config, directory, progress, clock)
    if config.add_to_zoo:  # last, so that a run that fails leaves no member behind
        prepared.inputs.zoo.add(*made.member)
    return made.report


def prepare(config: PruneConfig, progress: Progress, clock: Stopwatch) -> Prepared:
    """Read the inputs and rank the zoo: what models of several sizes for one task share.

    Raises:
        MvpEdgeError: an input cannot be used.
    """
    with clock.time("load"):
        inputs = read_inputs(config, progress)
        trunk = Trunk.of(inputs.zoo.base, inputs.zoo.load_base())
    device, seed = inputs.device, config.seed
    with clock.time("rank"), progress.stage("Ranking the zoo") as stage:
        ranked = rank(
            inputs.zoo, trunk, inputs.task, inputs.train, config.vote, device=device, seed=seed, stage=stage
        )  # fmt: skip
    return Prepared(inputs, trunk, ranked)


def size(prepared: Prepared, config: PruneConfig, progress: Progress) -> Sizing:
    """Decide how many units of each group the model keeps.

    Raises:
        BudgetError: no sub-network meets the budget.
    """
    ranked, task = prepared.ranked, prepared.inputs.task
    voters = ranked[: config.vote.neighbours]
    seeds = knowing(ranked, task) if config.vote.voters == "auto" and config.vote.method == "mvp" else []
    ballots = Ballots(
        [n.info.plan for n in voters], vote_weights(voters, config.vote), [n.info.plan for n in seeds]
    )  # fmt: skip
    return choose_counts(prepared.trunk, config.vote, config.budget, ballots, task.names, progress)


def make(
    prepared: Prepared, sizing: Sizing, config: PruneConfig, directory: Path, progress: Progress, clock: Stopwatch
) -> Made:
    """Make one model and write it with its report into a directory.

    Raises:
        MvpEdgeError: the model cannot be sliced faithfully or exported, or a voter is damaged.
    """
    inputs, trunk, device = prepared.inputs, prepared.trunk, prepared.inputs.device
    inputs = replace(inputs, warnings=list(inputs.warnings))  # each model has its own
    sized = None if sizing.by_rule else sizing.counts
    with clock.time("vote"):
        neighbours = electorate(prepared.ranked, trunk, inputs.task, config.vote, sized)
        plan, voters = vote(inputs.zoo, trunk, neighbours, config.vote, config.seed, sized)
    if warning := far_warning(neighbours, inputs.task, config.vote.similarity):
        inputs.warnings.append(warning)
    with clock.time("slice"), progress.stage("Slicing"):
        images = torch.randn(2, 3, *trunk.base.input_size, generator=torch.Generator().manual_seed(0))
        sliced_diff = faithfulness(trunk.model, trunk.table, plan, images)
        model = assemble(trunk, plan, voters, inputs.train, device=device)
    with clock.time("fine_tune"):
        fine_tune(model, trunk, inputs, config, progress)
    model = model.to("cpu", memory_format=torch.contiguous_format).eval()
    outcome = Outcome(
        task=inputs.task,
        test=inputs.test,
        source=inputs.source,
        zoo=inputs.zoo.name,
        trunk=trunk,
        neighbours=neighbours,
        plan=plan,
        model=model,
        device=device,
        warnings=inputs.warnings,
        requested=sizing.requested,
    )
    report = deliver(directory, outcome, config, clock, progress)
    report["sliced_vs_masked_max_abs_diff"] = sliced_diff
    member = _as_member(outcome, config, report["accuracy"]["top1"])
    if config.add_to_zoo:
        report["added_member"] = member.id
    report["seconds"] = {k: round(v, 3) for k, v in clock.seconds.items()} | {"total": round(clock.total, 3)}
    write_report(directory, report, outcome, config)
    return Made(report, (member, trunk.state_of(model)))


def read_inputs(config: PruneConfig, progress: Progress) -> Inputs:
    """Read and check the class list, the images, the zoo and the device.

    Raises:
        MvpEdgeError: one of them cannot be used.
    """
    task = wordnet.resolve(read_task(config.task))
    device = resolve_device(config.device)
    zoo = open_zoo(config.zoo)
    if config.data is None:
        raise ConfigError(
            "no images were given; add --data DIR with folders DIR/train/CLASS and DIR/test/CLASS (or DIR/CLASS), "
            "or a data set's name such as --data cifar100"
        )
    source = open_source(config.data)
    sets = []
    for split in ("train", "test"):
        with progress.stage(f"Reading {split} images", source.count(task.names, split)) as stage:
            sets.append(source.load(task.names, split, zoo.base.input_size, stage.advance))
    train, test = sets
    warnings = list(source.notes)
    if skipped := [*train.skipped, *test.skipped]:
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        warnings.append(f"{len(skipped)} unreadable images were skipped: {shown}")
    return Inputs(task, train, test, source.name, zoo, device, warnings)


def fine_tune(model: nn.Module, trunk: Trunk, inputs: Inputs, config: PruneConfig, progress: Progress) -> None:
    """Train the assembled network on the task's images, in place (Algorithm 1, line 9)."""
    if config.fit.iterations == 0:
        return
    teacher = None
    if config.fit.distill > 0:
        teacher = restricted_teacher(trunk, inputs.task, inputs.train, inputs.device, progress)
        if teacher is None:
            inputs.warnings.append("distillation is off: the base model does not know all classes of this task")
    with progress.stage("Fine-tuning", config.fit.iterations) as stage:
        source = BatchSource(inputs.train, trunk.base, config.fit, inputs.device, config.seed, teacher)
        fit(model, source, config.fit, optimizer=make_optimizer(model, config.fit), stage=stage)


def restricted_teacher(
    trunk: Trunk, task: Task, data: ImageSet, device: torch.device, progress: Progress
) -> Tensor | None:
    """Return the base model's logits `(N, classes)` for the task's classes, or None if it does not know them all."""
    known = {canonical(n): i for i, n in enumerate(trunk.base.classes)}
    if not all(canonical(n) in known for n in task.names):
        return None
    with progress.stage("Asking the base model", len(data)) as stage:
        whole = trunk.model.to(device, memory_format=torch.channels_last)
        logits = predict(whole, data.images, trunk.base, device, stage=stage, bf16=True)
    return logits[:, [known[canonical(n)] for n in task.names]]


def far_warning(neighbours: Sequence[Neighbour], task: Task, similarity: str) -> str | None:
    """Return a warning if even the nearest task tells little about this one."""
    best = neighbours[0].similarity
    if best >= (FAR_WORDNET if similarity == "wordnet" else -FAR_LEEP * math.log(len(task.classes))):
        return None
    return (
        f"even the nearest task in the zoo is far from this one ({similarity} {best:.2f}); expect less than usual, "
        "or add members near it with: mvp-edge zoo build"
    )


def _as_member(outcome: Outcome, config: PruneConfig, top1: float) -> MemberInfo:
    recipe = {"method": config.vote.method, "vote": asdict(config.vote), "fit": asdict(config.fit), "seed": config.seed}
    if config.budget is not None:
        recipe["budget"] = config.budget.given
    name, sha256 = member_id(outcome.task, recipe), outcome.trunk.base.sha256
    return MemberInfo(name, outcome.task, "narrow", outcome.plan, sha256, recipe, top1)
