"""Making members: sample tasks, prune each from the base model, add it to the zoo."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import torch
from torch import nn

from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule
from mvp_edge.data import DataSource, ImageSet
from mvp_edge.errors import ConfigError
from mvp_edge.heads import random_head
from mvp_edge.metavote import Trunk
from mvp_edge.models import set_head
from mvp_edge.plan import KeepPlan
from mvp_edge.pruners import base_importance, iterative_prune, target_counts, top_plan
from mvp_edge.runtime import Progress, Stage, rng, torch_rng
from mvp_edge.similarity import wordnet
from mvp_edge.slicing import sliced_copy
from mvp_edge.tasks import Task, TaskClass
from mvp_edge.train import BatchSource, accuracy, fit, make_optimizer, predict
from mvp_edge.zoo import MemberInfo, Zoo, member_id


def sample_tasks(classes: Sequence[str], ways: int, count: int, seed: int) -> list[Task]:
    """Draw `count` different tasks of `ways` classes each; the first k are the same for every count (Section 3.1).

    Raises:
        ConfigError: there are not so many.
    """
    if not 2 <= ways <= len(classes):
        raise ConfigError(f"ways is {ways}; the data have {len(classes)} classes, so it must be in 2..{len(classes)}")
    if count > (most := math.comb(len(classes), ways)):
        raise ConfigError(f"members is {count}; {len(classes)} classes make only {most} tasks of {ways} ways")
    draw = rng(seed, "tasks")
    tasks: dict[str, Task] = {}
    while len(tasks) < count:
        chosen = sorted(draw.choice(len(classes), ways, replace=False))
        task = Task(tuple(TaskClass(classes[i]) for i in chosen))
        tasks.setdefault(task.id, task)
    return [wordnet.resolve(t) for t in tasks.values()]


def make_narrow(
    trunk: Trunk, train: ImageSet, schedule: PruneSchedule, config: FitConfig, *, device: torch.device, seed: int,
    stage: Stage | None = None,
) -> tuple[nn.Module, KeepPlan]:  # fmt: skip
    """Prune the base model for one task with IFP; return the sliced model on `device` and what it keeps."""
    model = copy.deepcopy(trunk.model)
    features = int(model.get_submodule(trunk.head).in_features)
    set_head(model, random_head(features, len(train.classes), torch_rng(seed, "head")))
    model = model.to(device, memory_format=torch.channels_last)
    source = BatchSource(train, trunk.base, config, device, seed)
    plan = iterative_prune(model, trunk.table, source, schedule, config, rng=rng(seed, "prune"), stage=stage)
    return model, plan


def make_broad(
    trunk: Trunk, train: ImageSet, keep: float, align: int, config: FitConfig, *, device: torch.device, seed: int,
    progress: Progress,
) -> tuple[nn.Module, KeepPlan]:  # fmt: skip
    """Cut the base model once for all its classes and train it long, with distillation from the base."""
    counts = target_counts(trunk.table, keep, align)
    plan = top_plan(trunk.table, base_importance(trunk.model, trunk.table), counts)
    model = sliced_copy(trunk.model, trunk.table, plan).to(device, memory_format=torch.channels_last)
    teacher = None
    if config.distill > 0:
        whole = trunk.model.to(device, memory_format=torch.channels_last)
        with progress.stage("Teacher", len(train)) as stage:
            teacher = predict(whole, train.images, trunk.base, device, stage=stage, bf16=True)
    with progress.stage("Broad member", config.iterations) as stage:
        source = BatchSource(train, trunk.base, config, device, seed, teacher)
        fit(model, source, config, optimizer=make_optimizer(model, config), stage=stage)
    return model, plan


def build_narrow(
    zoo: Zoo, trunk: Trunk, data: DataSource, config: BuildConfig, *, device: torch.device, progress: Progress
) -> list[MemberInfo]:
    """Fill a zoo up to `config.members` narrow members; return those made by this call.

    A member that exists or that another process is making is passed over, so that any number of processes may build
    the same zoo and a killed one loses at most the member in progress.

    Raises:
        DataError: images of a class are missing.
        ZooError: the zoo cannot be written.
    """
    zoo.remove_leftovers()
    made = []
    tasks = sample_tasks(trunk.base.classes or data.classes, config.ways, config.members, config.seed)
    recipe = {
        "method": "ifp", **asdict(config.schedule), "fit": asdict(config.fit), "seed": config.seed, "data": data.name
    }  # fmt: skip
    pending = [t for t in tasks if not zoo.has(member_id(t, recipe))]
    with progress.stage("Members", len(tasks)) as stage:
        stage.advance(len(tasks) - len(pending))
        for task, member in _claimed(zoo, pending, recipe):
            train = data.load(task.names, "train", trunk.base.input_size)
            test = data.load(task.names, "test", trunk.base.input_size)
            model, plan = make_narrow(trunk, train, config.schedule, config.fit, device=device, seed=config.seed)
            top1 = accuracy(predict(model, test.images, trunk.base, device), test).top1
            info = MemberInfo(member, task, "narrow", plan, trunk.base.sha256, recipe, round(top1, 2))
            made.append(zoo.add(info, trunk.state_of(model)))
            stage.note(f"{', '.join(task.names)}: {top1:.1f} %")
            stage.advance()
    return made


def build_broad(
    zoo: Zoo, trunk: Trunk, data: DataSource, keep: float, align: int, config: FitConfig, *, device: torch.device,
    seed: int, progress: Progress,
) -> MemberInfo | None:  # fmt: skip
    """Add the member for all classes of the base model at one keep ratio; None if it is there already."""
    classes = trunk.base.classes or data.classes
    task = wordnet.resolve(Task(tuple(TaskClass(c) for c in classes)))
    recipe = {
        "method": "norm-scale", "keep": keep, "align": align, "fit": asdict(config), "seed": seed, "data": data.name
    }  # fmt: skip
    member = member_id(task, recipe)
    with zoo.claim(member) as mine:
        if not mine:
            return None
        with progress.stage("Images", None):
            train = data.load(classes, "train", trunk.base.input_size)
            test = data.load(classes, "test", trunk.base.input_size)
        model, plan = make_broad(trunk, train, keep, align, config, device=device, seed=seed, progress=progress)
        top1 = accuracy(predict(model, test.images, trunk.base, device), test).top1
        info = MemberInfo(member, task, "broad", plan, trunk.base.sha256, recipe, round(top1, 2))
        return zoo.add(info, trunk.state_of(model))


def _claimed(zoo: Zoo, tasks: Sequence[Task], recipe: dict[str, object]) -> Iterator[tuple[Task, str]]:
    for task in tasks:
        member = member_id(task, recipe)
        with zoo.claim(member) as mine:
            if mine:
                yield task, member
