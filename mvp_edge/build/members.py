"""Filling a zoo: an empty one for a base model, random tasks, and members for them by any number of processes."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mvp_edge.build.teaching import Teacher
from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule, ScoreSchedule
from mvp_edge.core.device import on_device, on_host
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import Progress, Stage
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import DataSource, ImageSet
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.attention import attentions
from mvp_edge.models.bases import Base
from mvp_edge.models.heads import random_head, shared_rows
from mvp_edge.models.norms import IMAGES, is_folded, unfold
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.pruners import automatic_prune, base_importance, iterative_prune, target_counts, top_plan
from mvp_edge.training.loop import BatchSource, accuracy, predict
from mvp_edge.training.optimizers import resolve_fit
from mvp_edge.zoo.member import Member, MemberInfo, MemberKind, Outputs, member_id
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo

NORM_CLASSES = 16  # whose images batch norms are measured on


def prepare_zoo(
    directory: Path, base: Base, model: nn.Module, data: DataSource, *, device: torch.device, progress: Progress
) -> tuple[Zoo, list[str]]:
    """Open the zoo of a base model, or make an empty one; its base can be trained.

    Batch norms that were folded into the convolutions are measured anew on images of the data. The recipe of the zoo's
    base tells of it, and which weights it came from.

    Returns:
        The zoo, and what the user should know.

    Raises:
        DataError: images cannot be read.
        ZooError: the directory holds something else or a zoo of another base model, or cannot be written.
    """
    if not is_folded(model):
        return create_zoo(directory, base, model), []
    mark = f"batch norms measured anew, folded in the weights {base.sha256[:12]}"
    if (directory / "zoo.json").exists() and (zoo := open_zoo(str(directory))).base.recipe.endswith(mark):
        return zoo, []
    with progress.stage("Measuring batch norms"):
        images = _sample(data, base)
        unfold(on_device(model, device), images, base, device)
    on_host(model)
    note = (
        f"the batch norms of {base.name} were folded into its convolutions; they were measured anew on {len(images)} "
        "images: the network computes the same, and can be trained"
    )
    return create_zoo(directory, replace(base, recipe=f"{base.recipe}; {mark}".removeprefix("; ")), model), [note]


def _sample(data: DataSource, base: Base) -> Tensor:
    """Return uint8 images `(N, 3, H, W)` of classes spread over the data; only one class is in memory at a time."""
    chosen = data.classes[:: max(1, len(data.classes) // NORM_CLASSES)][:NORM_CLASSES]
    share, draw = max(1, IMAGES // len(chosen)), rng(0, "norms")
    parts = (data.load([name], "train", base.input_size).at_most(share, draw) for name in chosen)
    return torch.cat([part.images for part in parts])


def build_specialists(
    zoo: Zoo, prunable: PrunableModel, data: DataSource, config: BuildConfig, *, device: torch.device,
    progress: Progress, teacher: Teacher | None = None, only: Sequence[int] | None = None, patience_s: float = 0.0,
) -> list[MemberInfo]:  # fmt: skip
    """Fill a zoo up to `config.members` specialists with these settings; return those made by this call.

    A member that exists or that another process is making is passed over, so that any number of processes may build
    the same zoo and a killed one loses at most the member in progress. A `teacher` that is given keeps the base's
    logits of each class beyond this call. `only` has the numbers of the tasks whose members are made, `patience_s` is
    how long to wait for another process that makes one.

    Raises:
        ConfigError: the classes make fewer tasks than there shall be members.
        DataError: images of a class are missing.
        PlanError: the base model cannot be sliced faithfully.
        ZooError: the zoo cannot be written.
    """
    zoo.remove_leftovers()
    made = []
    tasks = specialist_tasks(prunable, data, config)
    parent = None
    if config.parent == "generalist":
        everything = Task(tuple({c.name: c for t in tasks for c in t.classes}.values()))
        found = find_parent(zoo, prunable, everything, config.schedule)
        parent = None if found is None else zoo.load(found)
    fit, scores = fit_for("specialist", config, prunable), scores_for(config, prunable)
    size, teacher, verified = prunable.base.input_size, teacher or Teacher(prunable, device), False
    wanted = tasks if only is None else [tasks[number] for number in only]
    with progress.stage("Members", len(wanted)) as stage:
        for task in wanted:
            images = data.sha256(task.names, "train", size)
            recipe = make_recipe(parent, config.schedule, scores, fit, config.seed, data.name, images)
            member = member_id(task, recipe)
            with ExitStack() as held:
                if zoo.has(member) or not held.enter_context(zoo.claim(member, patience_s)):
                    stage.advance()
                    continue
                if not verified:
                    verify_base(prunable, config.schedule)
                    verified = True
                train, test = (data.load(task.names, split, size) for split in ("train", "test"))
                model, plan = make_member(
                    prunable, train, config.schedule, fit, device=device, seed=config.seed, parent=parent,
                    teacher=teacher.logits(train) if fit.distill > 0 else None, scores=scores,
                )  # fmt: skip
                info = MemberInfo(member, task, "specialist", plan, zoo.base.sha256, recipe)
                made.append(_add(zoo, prunable, model, info, test))
                stage.note(f"{', '.join(task.names)}: {made[-1].top1:.1f} %")
                stage.advance()
    return made


def build_generalists(
    zoo: Zoo, prunable: PrunableModel, data: DataSource, keeps: Sequence[float], config: BuildConfig, *,
    device: torch.device, progress: Progress,
) -> list[MemberInfo]:  # fmt: skip
    """Add members for all classes of the base model, the largest first and each pruned from the one before.

    A member that another process is making is waited for, because the next one is pruned from it. Their outputs on the
    test split are stored beside them: what a part of the classes scores can be computed later without
    any image.

    Raises:
        DataError: images of a class are missing.
        ZooError: the zoo cannot be written.
    """
    classes = prunable.base.classes or data.classes
    task = wordnet.resolve(Task(tuple(TaskClass(c) for c in classes)))
    fit, scores = fit_for("generalist", config, prunable), scores_for(config, prunable)
    made: list[MemberInfo] = []
    with progress.stage("Reading images", None):
        train = data.load(classes, "train", prunable.base.input_size)
        test = data.load(classes, "test", prunable.base.input_size)
    teacher, logits = Teacher(prunable, device), None
    for keep in sorted(keeps, reverse=True):
        schedule = replace(config.schedule, keep=keep)
        found = find_parent(zoo, prunable, task, schedule) if config.parent == "generalist" else None
        parent = None if found is None else zoo.load(found)
        recipe = make_recipe(parent, schedule, scores, fit, config.seed, data.name, train.sha256)
        member = member_id(task, recipe)
        with _turn(zoo, member, progress) as mine:
            if not mine:
                continue
            verify_base(prunable, schedule)
            if fit.distill > 0 and logits is None:
                with progress.stage("Asking the base model", len(train)) as stage:
                    logits = teacher.logits(train, stage)
            with progress.stage(f"Generalist, keep {keep:g}", fit.iterations) as stage:
                model, plan = make_member(
                    prunable, train, schedule, fit, device=device, seed=config.seed, parent=parent,
                    teacher=logits, scores=scores, stage=stage,
                )  # fmt: skip
            made.append(
                _add(zoo, prunable, model, MemberInfo(member, task, "generalist", plan, zoo.base.sha256, recipe), test)
            )
    return made


@contextmanager
def _turn(zoo: Zoo, member: str, progress: Progress) -> Iterator[bool]:
    """Hold a member while it is made, once no other process makes it; False if it is there then."""
    with ExitStack() as held:
        mine = held.enter_context(zoo.claim(member))
        if not mine and not zoo.has(member):
            with progress.stage(f"Waiting for another process that makes {member}"):
                mine = held.enter_context(zoo.claim(member, math.inf))
        yield mine


def _add(zoo: Zoo, prunable: PrunableModel, model: nn.Module, info: MemberInfo, test: ImageSet) -> MemberInfo:
    """Add a network with its accuracy as it will be read back; a generalist with its outputs."""
    state = prunable.state_of(model)
    device = next(model.parameters()).device
    restored = on_device(Member(info, zoo.as_stored(state)).network(prunable), device)
    logits = predict(restored, test.images, prunable.base, device)
    info = replace(info, top1=round(accuracy(logits, test).top1, 2))
    return zoo.add(info, state, Outputs(logits, test.labels) if info.kind == "generalist" else None).info


def make_member(
    prunable: PrunableModel, train: ImageSet, schedule: PruneSchedule, config: FitConfig, *, device: torch.device,
    seed: int, parent: Member | None = None, teacher: Tensor | None = None, scores: ScoreSchedule | None = None,
    stage: Stage | None = None,
) -> tuple[nn.Module, KeepPlan]:  # fmt: skip
    """Prune for a task with IFP or AHNP; return the sliced model on `device` and what it keeps of the base model.

    Args:
        prunable: The base model.
        train: Images of the task.
        schedule: How much is kept, and what IFP drops when.
        config: How it is trained meanwhile.
        device: Where.
        seed: Of the head, the batches and random importance.
        parent: A larger member to prune from, which also gives the head's rows; the whole base model with a random
            head if not given.
        teacher: Logits `(N, classes)` of the base model on the images, for distillation.
        scores: How AHNP prunes; IFP does if not given.
        stage: Progress.
    """
    model = copy.deepcopy(prunable.model) if parent is None else parent.network(prunable)
    head = None
    if parent is not None or teacher is not None:
        known = prunable.base.classes if parent is None else parent.info.task.names
        head = shared_rows(train.classes, known, head_of(model))
    if head is None:
        features = head_of(model).in_features
        head = random_head(features, len(train.classes), torch_rng(seed, "head"))
    set_head(model, head)
    model = on_device(model, device)
    source = BatchSource(train, prunable.base, config, device, seed, teacher)
    start = None if parent is None else parent.info.plan
    if scores is None:
        draw = rng(seed, "prune")
        return model, iterative_prune(
            model, prunable.table, source, schedule, config, rng=draw, start=start, stage=stage
        )
    counts = target_counts(prunable.table, schedule.keep, schedule.channel_multiple)
    return model, automatic_prune(model, prunable.table, source, counts, scores, config, start=start, stage=stage)


def fit_for(kind: MemberKind, config: BuildConfig, prunable: PrunableModel) -> FitConfig:
    """Return how members are trained: without distillation where the base model names no classes, so cannot teach."""
    fit = _wanted_fit(kind, config, prunable)
    return fit if prunable.base.classes else replace(fit, distill=0.0)


def _wanted_fit(kind: MemberKind, config: BuildConfig, prunable: PrunableModel) -> FitConfig:
    return resolve_fit(config.fit if kind == "specialist" else config.generalist_fit, kind, prunable.model)


def untaught(kinds: Sequence[MemberKind], config: BuildConfig, prunable: PrunableModel) -> list[str]:
    """Return what the user should know if members were to be taught, and the base model names no classes."""
    wanted = (_wanted_fit(kind, config, prunable).distill for kind in kinds)
    if prunable.base.classes or not any(wanted):
        return []
    return [f"distillation is off: {prunable.base.name} does not name its classes, so that it cannot teach its members"]


def scores_for(config: BuildConfig, prunable: PrunableModel) -> ScoreSchedule | None:
    """Return how AHNP prunes members of a base, or None if IFP does."""
    if config.method == "auto":
        return config.scores if attentions(prunable.model) else None
    return config.scores if config.method == "ahnp" else None


def find_parent(zoo: Zoo, prunable: PrunableModel, task: Task, schedule: PruneSchedule) -> MemberInfo | None:
    """Return the smallest generalist that knows a task's classes and is larger than what is to be made of it.

    It may have as few attention heads: of a block's few, several ratios keep the same number.
    """
    wanted, size = target_counts(prunable.table, schedule.keep, schedule.channel_multiple), prunable.table.unit_channels

    def larger(counts: dict[str, int]) -> bool:
        return counts != wanted and all(n > wanted[g] or (n == wanted[g] and size[g] > 1) for g, n in counts.items())

    able = [i for i in zoo.knowing(task) if larger(i.plan.counts)]
    return min(able, key=lambda i: i.plan.achieved, default=None)


def verify_base(prunable: PrunableModel, schedule: PruneSchedule) -> None:
    """Slice the base model as a schedule asks for, before anything is trained.

    Raises:
        PlanError: it is not what masking gives; no member of it would be.
    """
    counts = target_counts(prunable.table, schedule.keep, schedule.channel_multiple)
    prunable.verify_slicing(top_plan(prunable.table, base_importance(prunable.model, prunable.table), counts))


def make_recipe(
    parent: Member | None, schedule: PruneSchedule, scores: ScoreSchedule | None, fit: FitConfig, seed: int, data: str,
    data_sha256: str,
) -> dict[str, object]:  # fmt: skip
    """Return how a member is made and from which images, which with its task names it; every word of it must stay."""
    how = {"method": "ifp", **asdict(schedule)}
    if scores is not None:
        size = {"keep": schedule.keep, "channel_multiple": schedule.channel_multiple}
        how = {"method": "ahnp", **size, "scores": asdict(scores)}
    parent_id = None if parent is None else parent.info.id
    return {**how, "parent": parent_id, "fit": fit.to_recipe(), "seed": seed, "data": data, "data_sha256": data_sha256}


def specialist_tasks(prunable: PrunableModel, data: DataSource, config: BuildConfig) -> list[Task]:
    """Return the tasks of the specialists that settings ask for.

    Raises:
        ConfigError: there are not so many.
    """
    return sample_tasks(prunable.base.classes or data.classes, config.ways, config.members, config.seed)


def sample_tasks(classes: Sequence[str], ways: int, count: int, seed: int) -> list[Task]:
    """Draw `count` different tasks of `ways` classes each; the first k are the same for every count (Section 3.1).

    Raises:
        ConfigError: there are not so many.
    """
    if count == 0:
        return []
    if not 2 <= ways <= len(classes):
        raise ConfigError(f"--ways is {ways}; the data have {len(classes)} classes, so use 2 to {len(classes)}")
    if count > (most := math.comb(len(classes), ways)):
        raise ConfigError(
            f"--members is {count}; {len(classes)} classes make only {most} lists of {ways}, so use {most} at most"
        )
    draw = rng(seed, "tasks")
    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        chosen = sorted(int(i) for i in draw.choice(len(classes), ways, replace=False))
        task = Task(tuple(TaskClass(classes[i]) for i in chosen))
        tasks.setdefault(task.id, task)
    return [wordnet.resolve(t) for t in tasks.values()]
