"""One member: what it is pruned from, how it is pruned and trained, and the recipe that names it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn

from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule, ScoreSchedule
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.attention import attentions
from mvp_edge.models.heads import random_head, shared_rows
from mvp_edge.models.plan import KeepPlan
from mvp_edge.pruners import automatic_prune, base_importance, iterative_prune, target_counts, top_plan
from mvp_edge.core.device import on_device
from mvp_edge.core.progress import Stage
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.names.tasks import Task
from mvp_edge.training.loop import BatchSource
from mvp_edge.training.optimizers import resolve_fit
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import MemberKind, Member, MemberInfo
from mvp_edge.zoo.store import Zoo


def make_member(
    prunable: PrunableModel, train: ImageSet, schedule: PruneSchedule, config: FitConfig, *, device: torch.device, seed: int,
    parent: Member | None = None, teacher: Tensor | None = None, scores: ScoreSchedule | None = None,
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
        return model, iterative_prune(model, prunable.table, source, schedule, config, rng=draw, start=start, stage=stage)
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
