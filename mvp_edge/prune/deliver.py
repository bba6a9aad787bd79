"""The result of a run: write the model, evaluate and measure the file, and report it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mvp_edge.config import InputFormat, Method, PruneConfig, Similarity
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.device import on_host
from mvp_edge.core.environment import environment
from mvp_edge.core.progress import Progress, Stopwatch
from mvp_edge.data import ImageSet
from mvp_edge.export import TOLERANCE, export_onnx, take_inventory, verify_onnx
from mvp_edge.export.classifier import read_interface
from mvp_edge.models.architectures import head_of
from mvp_edge.models.macs import nominal_training_flops
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.widening import contains
from mvp_edge.names.tasks import Task
from mvp_edge.prune.accuracy import (
    UNKNOWN,
    base_accuracy,
    measured_accuracy,
    predict_file,
    selecting_keep,
    unknown_accuracy,
)
from mvp_edge.prune.fit import Tuned, Unseen
from mvp_edge.prune.gate import Candidate, failed_gate
from mvp_edge.prune.limits import limits_of, missed, unused
from mvp_edge.prune.measuring import Costs, measure, slower
from mvp_edge.prune.pictures import Pictures
from mvp_edge.prune.precision import compare, make_precision
from mvp_edge.prune.samples import extras_of
from mvp_edge.prune.write import FILES
from mvp_edge.report import Report, render_html, write_json
from mvp_edge.report.record import (
    AccuracyRecord,
    BaseAccuracyRecord,
    GroupRecord,
    InterfaceRecord,
    InterpolationRecord,
    KeepRecord,
    LimitRecord,
    Origin,
    PrecisionRecord,
    PrecisionsRecord,
    SettingsRecord,
    SizeRecord,
    TaskRecord,
    VoterRecord,
)
from mvp_edge.voting.neighbours import Neighbour
from mvp_edge.zoo.member import MemberInfo, member_id
from mvp_edge.zoo.store import Zoo

VOTES: dict[Method, str] = {"mvp": "meta-vote pruning", "smsp": "SMSP-style scores over all groups, our reading"}
OTHERS: dict[Origin, str] = {
    "member": "a generalist's units and weights, fine-tuned for these classes",
    "ready-made": "a ready-made generalist, as it is",
    "base": "nothing removed: the whole base model",
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """A network that is ready to be delivered, and how it came about.

    Attributes:
        task: Its classes.
        zoo: The zoo.
        prunable: The base model.
        train: The images that it was trained on, if there are any.
        unseen: Images held out of training for choices, if there are any.
        test: Test images, if there are any: they decide nothing.
        pictures: All images of the run, and their files in numbers.
        source: Name of the data.
        data_sha256: Checksum of all training images, those held out among them.
        held_out: How many of these it was not trained on.
        stored: Accuracy from stored outputs, where there are no images.
        sizes: Ready-made models of all sizes, where there are no images.
        voters: Members that voted, or the one that is delivered.
        similarity: How similarity was measured.
        requested: Units requested of each group, before counts were raised where that costs no time.
        plan: Units kept.
        model: The network, on the CPU, in evaluation mode.
        sliced_diff: Largest difference between the sliced and the masked network.
        tuned: How it was fine-tuned.
        before: Logits `(N, classes)` for the test images before fine-tuning, if it was fine-tuned.
        device: Device of the training.
        warnings: Warnings for the user so far.
    """

    task: Task
    zoo: Zoo
    prunable: PrunableModel
    train: ImageSet | None
    unseen: Unseen | None
    test: ImageSet | None
    pictures: Pictures | None
    source: str | None
    data_sha256: str | None
    held_out: int
    stored: AccuracyRecord | None
    sizes: Sequence[SizeRecord]
    voters: Sequence[Neighbour]
    similarity: Similarity
    requested: Mapping[str, int]
    plan: KeepPlan
    model: nn.Module
    sliced_diff: float
    tuned: Tuned
    before: Tensor | None
    device: torch.device
    warnings: Sequence[str]


@dataclass(frozen=True, eq=False)
class Delivered:
    """The report of a model, and the model as a member of a zoo."""

    report: Report
    member: MemberInfo
    state: Mapping[str, Tensor]


def deliver(directory: Path, outcome: Outcome, config: PruneConfig, clock: Stopwatch, progress: Progress) -> Delivered:
    """Write the model with its report into a directory.

    Raises:
        ExportError: the model cannot be exported, the file disagrees with the network, or a file cannot be written.
    """
    with TemporaryDirectory() as scratch:
        return _deliver(directory, Path(scratch), outcome, config, clock, progress)


def _deliver(
    directory: Path, scratch: Path, outcome: Outcome, config: PruneConfig, clock: Stopwatch, progress: Progress
) -> Delivered:
    """Deliver as `deliver` does; files that are only compared with are written to `scratch`."""
    file, whole, state = directory / FILES[0], scratch / "base.onnx", outcome.prunable.state_of(outcome.model)

    def stand_in(other: Mapping[str, Tensor]) -> Path:
        file, copied = scratch / FILES[0], copy.deepcopy(outcome.model)
        copied.load_state_dict(other)
        _export(copied, outcome.prunable, file, outcome.task.names, {}, config.input)
        return file

    with clock.time("export"), progress.stage("Exporting"):
        parity = _write(directory, file, outcome, config, state)
        _export_base(whole, outcome.prunable, config.input)
    with clock.time("evaluate"), progress.stage("Evaluating"):
        logits = None if outcome.test is None else predict_file(file, outcome.test)
        score, base_score, warnings = _evaluate(whole, logits, outcome, config.seed)
    with clock.time("quantise"), progress.stage("Trying other precisions"):
        images = None if outcome.train is None else outcome.train.images
        made = make_precision(file, config.precision, images, config.seed)
    with clock.time("measure"), progress.stage("Measuring"):
        others = [made.path] if isinstance(made, Candidate) else []
        costs, timings = measure(file, others, whole, outcome.model, outcome.prunable)
    with clock.time("quantise"):
        precisions = compare(file, config.precision, made, timings, outcome.unseen, outcome.test, stand_in, config.seed)
    budget = limits_of(config.budget, costs.limited)
    member = _member(outcome, config, budget, score)
    found = Found(file, parity, score, base_score, costs, budget, precisions, warnings)
    report = _report(outcome, found, member, config, clock)
    write_json(report, directory / "report.json")
    kept = {g.name: g.kept for g in outcome.plan.groups}
    render_html(report, kept, extras_of(file, outcome.pictures, logits, config), directory / "report.html")
    return Delivered(report, member, state)


@dataclass(frozen=True, eq=False)
class Found:
    """What was measured of a delivered file, with the warnings of its evaluation."""

    file: Path
    parity: float
    accuracy: AccuracyRecord
    base_accuracy: BaseAccuracyRecord | None
    costs: Costs
    budget: dict[str, LimitRecord] | None
    precisions: tuple[PrecisionRecord, ...]
    warnings: Sequence[str]


def _report(outcome: Outcome, found: Found, member: MemberInfo, config: PruneConfig, clock: Stopwatch) -> Report:
    costs, plan, fit = found.costs, outcome.plan, outcome.tuned.fit
    origin, inventory = origin_of(plan, outcome.voters, outcome.tuned), take_inventory(found.file)
    keep = plan.achieved if config.budget else config.vote.keep
    nominal = nominal_training_flops(costs.base_macs, keep, outcome.tuned.iterations, fit.batch_size)
    is_known = config.add_to_zoo and outcome.zoo.has(member.id)
    known = f"member {member.id}, made of the same images with the same settings, is unchanged"
    return Report(
        task=task_record(outcome.task),
        base=outcome.prunable.base.name,
        method=method_in_words(origin, config.vote.method),
        origin=origin,
        voters=tuple(map(_voter, outcome.voters)),
        keep=KeepRecord(requested=None if config.budget else config.vote.keep, achieved=round(plan.achieved, 4)),
        accuracy=found.accuracy,
        base_accuracy=found.base_accuracy,
        names=(),
        estimate=None,
        known=None,
        body=None,
        photographs=None,
        params=costs.params,
        base_params=costs.base_params,
        macs=costs.macs,
        base_macs=costs.base_macs,
        unprunable_macs=costs.unprunable_macs,
        bytes=costs.bytes,
        latency_ms=costs.latency_ms,
        budget=found.budget,
        precisions=PrecisionsRecord(requested=config.precision, files=found.precisions),
        sizes=tuple(outcome.sizes),
        interpolation=_interpolation(outcome.tuned),
        nominal_training_tflops=round(nominal / 1e12, 4),
        groups=tuple(
            GroupRecord(name=g.name, width=g.width, kept=len(g.kept), requested=outcome.requested[g.name])
            for g in plan.groups
        ),
        operators=inventory.operators,
        largest_rank=inventory.largest_rank,
        parity_max_abs_diff=found.parity,
        sliced_vs_masked_max_abs_diff=outcome.sliced_diff,
        out=str(config.out),
        files=(*FILES, *(p.file for p in found.precisions[1:] if p.kept)),
        zoo=outcome.zoo.name,
        added_member=member.id if config.add_to_zoo and not is_known else None,
        input=config.input,
        interface=_interface(found.file),
        data=outcome.source,
        pictures=None if outcome.pictures is None else outcome.pictures.record,
        data_sha256=outcome.data_sha256,
        data_held_out=outcome.held_out,
        seed=config.seed,
        settings=_settings(outcome, config),
        environment=environment(outcome.device),
        seconds=clock.rounded(),
        warnings=(
            *outcome.warnings, *rounding(found.parity), *found.warnings, *failed_gate(found.precisions), *slower(costs),
            *missed(config.budget, costs.limited, costs.latency_ms.clock), *unused(config, found.budget, plan.achieved),
            *([known] if is_known else []),
        ),
    )  # fmt: skip


def _settings(outcome: Outcome, config: PruneConfig) -> SettingsRecord:
    return SettingsRecord(vote=replace(config.vote, similarity=outcome.similarity), fit=outcome.tuned.fit)


def _member(
    outcome: Outcome, config: PruneConfig, budget: dict[str, LimitRecord] | None, score: AccuracyRecord
) -> MemberInfo:
    """Return the model as a member of a zoo."""
    images = outcome.source, outcome.data_sha256, outcome.held_out
    recipe = member_recipe(_settings(outcome, config), budget, config.seed, *images)
    name, sha256 = member_id(outcome.task, recipe), outcome.prunable.base.sha256
    return MemberInfo(name, outcome.task, "specialist", outcome.plan, sha256, recipe, score.top1)


def _write(directory: Path, file: Path, outcome: Outcome, config: PruneConfig, state: Mapping[str, Tensor]) -> float:
    """Write the model, labels, plan and weights; return the largest difference between logits of file and network."""
    base, names = outcome.prunable.base, outcome.task.names
    keep = config.budget.label if config.budget else str(config.vote.keep)
    provenance = {"base": base.name, "zoo": outcome.zoo.name, "keep": keep, "seed": str(config.seed)}
    _export(outcome.model, outcome.prunable, file, names, provenance, config.input)
    parity = verify_onnx(file, outcome.model, base.input_size, base.mean, base.std)
    plan = {"base": base.to_json(), "requested": dict(outcome.requested), **outcome.plan.to_json()}
    write_atomically(directory / "labels.txt", "".join(f"{n}\n" for n in names).encode())
    write_atomically(directory / "plan.json", json.dumps(plan).encode())
    write_atomically(directory / "weights.safetensors", save(dict(state)))
    return parity


def _export(
    model: nn.Module,
    prunable: PrunableModel,
    path: Path,
    labels: Sequence[str],
    metadata: dict[str, str],
    kind: InputFormat,
) -> None:
    base = prunable.base
    export_onnx(
        model, path, input_size=base.input_size, mean=base.mean, std=base.std, labels=labels, metadata=metadata,
        input_format=kind,
    )  # fmt: skip


def _export_base(path: Path, prunable: PrunableModel, kind: InputFormat) -> None:
    """Write the whole base model; it is on the CPU afterwards."""
    whole = on_host(prunable.model)
    outputs = head_of(whole).out_features
    _export(whole, prunable, path, prunable.base.classes or [str(i) for i in range(outputs)], {}, kind)


def _evaluate(
    whole: Path, logits: Tensor | None, outcome: Outcome, seed: int
) -> tuple[AccuracyRecord, BaseAccuracyRecord | None, list[str]]:
    """Return the accuracy of the delivered file, that of the base, and warnings."""
    if logits is not None and outcome.test is not None:
        coarse = None if outcome.pictures is None else outcome.pictures.record.coarse
        score, warnings = measured_accuracy(logits, outcome.test, outcome.before, outcome.source, coarse)
        base = base_accuracy(whole, outcome.prunable.base, outcome.task, logits, outcome.test, seed)
        return score, base, warnings
    if outcome.stored is not None:
        return outcome.stored, None, []
    return unknown_accuracy(), None, [f"accuracy is unknown: {UNKNOWN}"]


def member_recipe(
    settings: SettingsRecord,
    budget: Mapping[str, LimitRecord] | None,
    seed: int,
    data: str | None,
    data_sha256: str | None,
    held_out: int = 0,
) -> dict[str, Any]:
    """Return how a model was made and from which images; together with its task this names a member of a zoo.

    Args:
        settings: Of vote and training.
        budget: Limits, if there are any.
        seed: Seed of the run.
        data: Name of the data.
        data_sha256: Checksum of all training images.
        held_out: How many of these were not trained on.
    """
    limits = {"budget": {k: v.limit for k, v in budget.items()}} if budget else {}
    return {
        "method": settings.vote.method, "vote": asdict(settings.vote), "fit": settings.fit.to_recipe(), **limits,
        "seed": seed, "data": data, "data_sha256": data_sha256, **({"held_out": held_out} if held_out else {}),
    }  # fmt: skip


def origin_of(plan: KeepPlan, voters: Sequence[Neighbour], tuned: Tuned) -> Origin:
    """Return where a model comes from: a vote, one member's units and weights, a member as it is, or the base itself.

    Args:
        plan: Units kept.
        voters: Members that voted.
        tuned: How it was fine-tuned. If that did not help on held-out images, the member is as it was.
    """
    if plan.is_full:
        return "base"
    alone = voters[0].info if len(voters) == 1 else None
    if alone is None or alone.kind != "generalist":
        return "vote"
    return "ready-made" if tuned.untouched and contains(plan, alone.plan) else "member"


def method_in_words(origin: Origin, method: Method) -> str:
    """Return how a model was made, in the words of a report."""
    return VOTES[method] if origin == "vote" else OTHERS[origin]


def task_record(task: Task) -> TaskRecord:
    """Return a task as a report holds it."""
    return TaskRecord(classes=task.names, synsets=tuple(c.synset for c in task.classes), id=task.id)


def _voter(neighbour: Neighbour) -> VoterRecord:
    info = neighbour.info
    return VoterRecord(
        id=info.id, classes=info.task.names, kind=info.kind, similarity=round(neighbour.similarity, 4),
        keep=selecting_keep(info),
    )  # fmt: skip


def _interpolation(tuned: Tuned) -> InterpolationRecord | None:
    if tuned.interpolation is None:
        return None
    return InterpolationRecord.from_json(tuned.interpolation.to_json())


def _interface(file: Path) -> InterfaceRecord:
    """Return the interface of the delivered file, read from the file itself; its classes are those of the task."""
    value = read_interface(file).to_json()
    return InterfaceRecord.from_json({k: v for k, v in value.items() if k != "classes"})


def rounding(parity: float) -> list[str]:
    """Return a warning where file and network differ by more than networks usually do."""
    if parity <= TOLERANCE:
        return []
    return [
        f"the file and the network differ by up to {parity:.1e}, more than the usual {TOLERANCE:.0e}, but by no more "
        "than float32 rounding of this network; do not rely on smaller differences between logits"
    ]
