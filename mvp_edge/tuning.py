"""Fine-tuning of an assembled network on the task's images (Algorithm 1, line 9), as boldly as there are images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mvp_edge.config import FitConfig
from mvp_edge.data import ImageSet
from mvp_edge.metavote import Trunk
from mvp_edge.mixing import Mix, fold_count, steps, tune_mixed
from mvp_edge.runtime import Progress
from mvp_edge.tasks import Task, canonical
from mvp_edge.train import BatchSource, drawn, fit, make_optimizer, predict

MANY_IMAGES = 2000  # in all: fine-tuning on so many has always helped
GENTLE_RATE, GENTLE_STEPS, GENTLE_BATCH = 1 / 3, 1 / 2, 64  # of those that suit many images; images a step at most


@dataclass(frozen=True)
class Tuned:
    """How a network was fine-tuned.

    Attributes:
        fit: Settings of each training run; no iterations if there was none.
        mix: What images left out decided, if they were asked.
        warnings: What the user should know.
    """

    fit: FitConfig
    mix: Mix | None = None
    warnings: tuple[str, ...] = ()

    @property
    def iterations(self) -> int:
        """Optimiser steps in all."""
        return self.fit.iterations * (self.mix.folds if self.mix else 1)


def tune(
    model: nn.Module, trunk: Trunk, task: Task, data: ImageSet, config: FitConfig, *, device: torch.device, seed: int,
    progress: Progress,
) -> Tuned:  # fmt: skip
    """Fine-tune a network in place.

    Args:
        model: On `device`.
        trunk: The base model, which teaches if `config.distill` says so and it knows the classes.
        task: The classes.
        data: Images of them.
        config: How.
        device: Where.
        seed: Of the batches.
        progress: Who is told how far it is.
    """
    if config.iterations == 0:
        return Tuned(config)
    teacher: Tensor | None = None
    warnings: tuple[str, ...] = ()
    if config.distill > 0:
        # The base model is large, and a short training of many images does not see all of them.
        seen = drawn(len(data), config, seed)
        told = restricted_teacher(trunk, task, data.subset(seen), device, progress)
        if told is None:
            warnings = ("distillation is off: the base model does not know all classes of this task",)
        else:
            teacher = torch.full((len(data), told.shape[1]), math.nan).index_copy_(0, seen, told)
    with progress.stage("Fine-tuning", config.iterations) as stage:
        source = BatchSource(data, trunk.base, config, device, seed, teacher)
        fit(model, source, config, optimizer=make_optimizer(model, config), stage=stage)
    return Tuned(config, warnings=warnings)


def tune_warily(
    model: nn.Module, trunk: Trunk, task: Task, data: ImageSet, config: FitConfig, *, device: torch.device, seed: int,
    progress: Progress,
) -> Tuned:  # fmt: skip
    """Fine-tune a network that works already, in place; with few images only as far as images left out gain by it.

    Arguments are those of `tune`.
    """
    if len(data) >= MANY_IMAGES or config.iterations == 0:
        return tune(model, trunk, task, data, config, device=device, seed=seed, progress=progress)
    if fold_count(data.labels, len(data.classes)) < 2:
        note = "a class has a single image, so that none can be left out to judge by: the member is delivered as it is"
        return Tuned(replace(config, iterations=0), warnings=(f"{note}; force training with --schedule fixed",))
    config = gentle(config)
    teacher = restricted_teacher(trunk, task, data, device, progress) if config.distill > 0 else None
    with progress.stage("Fine-tuning", steps(config, data)) as stage:
        mix = tune_mixed(
            model, data, trunk.base, config, device=device, seed=seed, teacher=teacher, stage=stage
        )  # fmt: skip
    if mix.share > 0:
        return Tuned(config, mix)
    note = (
        f"fine-tuning on {len(data)} images did not help on images left out (top-1 {mix.top1[0.0]:.1f} % without, "
        f"{mix.top1[1.0]:.1f} % with it): the member is delivered as it is; force it with --schedule fixed"
    )
    return Tuned(config, mix, (note,))


def gentle(config: FitConfig) -> FitConfig:
    """Return settings that suit few images where `config` suits many."""
    return replace(
        config,
        lr=config.lr * GENTLE_RATE,
        iterations=math.ceil(config.iterations * GENTLE_STEPS),
        batch_size=min(config.batch_size, GENTLE_BATCH),
    )


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
