"""Filling a zoo: specialists for random tasks, generalists for all classes, by any number of processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import nn

from mvp_edge.build.member import find_parent, fit_for, make_member, make_recipe, scores_for, verify_base
from mvp_edge.build.sampling import specialist_tasks
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import BuildConfig
from mvp_edge.data import DataSource, ImageSet
from mvp_edge.core.device import on_device
from mvp_edge.core.progress import Progress
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import Member, MemberInfo, member_id
from mvp_edge.zoo.member import Outputs
from mvp_edge.zoo.store import Zoo


def build_specialists(
    zoo: Zoo, prunable: PrunableModel, data: DataSource, config: BuildConfig, *, device: torch.device, progress: Progress,
    teacher: Teacher | None = None,
) -> list[MemberInfo]:  # fmt: skip
    """Fill a zoo up to `config.members` specialists with these settings; return those made by this call.

    A member that exists or that another process is making is passed over, so that any number of processes may build
    the same zoo and a killed one loses at most the member in progress. A `teacher` that is given remembers what the
    base says of each class beyond this call.

    Raises:
        ConfigError: the classes make fewer tasks than members are asked for.
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
    with progress.stage("Members", len(tasks)) as stage:
        for task in tasks:
            images = data.sha256(task.names, "train", size)
            recipe = make_recipe(parent, config.schedule, scores, fit, config.seed, data.name, images)
            member = member_id(task, recipe)
            with ExitStack() as held:
                if zoo.has(member) or not held.enter_context(zoo.claim(member)):
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
    zoo: Zoo, prunable: PrunableModel, data: DataSource, keeps: Sequence[float], config: BuildConfig, *, device: torch.device,
    progress: Progress,
) -> list[MemberInfo]:  # fmt: skip
    """Add members for all classes of the base model, the largest first and each pruned from the one before.

    A member that another process is making is waited for, because the next one is pruned from it. Their outputs on the
    test split are stored beside them: what a part of the classes scores can be told later without
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
            made.append(_add(zoo, prunable, model, MemberInfo(member, task, "generalist", plan, zoo.base.sha256, recipe), test))
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
