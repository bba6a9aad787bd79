"""Fine-tuning of an assembled network on the task's images (Algorithm 1, line 9), as boldly as there are images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mvp_edge.config import FitConfig
from mvp_edge.core.progress import Progress
from mvp_edge.data import ImageSet
from mvp_edge.models.bases import Base
from mvp_edge.training.loop import BatchSource, fit, make_optimizer
from mvp_edge.training.mixing import Mix, fold_count, steps, tune_mixed

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

    @property
    def untouched(self) -> bool:
        """Whether the network is as it was: it was not trained, or images left out gained nothing by it."""
        return self.iterations == 0 or (self.mix is not None and self.mix.share == 0)


def tune(
    model: nn.Module,
    base: Base,
    data: ImageSet,
    config: FitConfig,
    *,
    device: torch.device,
    seed: int,
    progress: Progress,
) -> Tuned:
    """Fine-tune a network in place.

    Args:
        model: On `device`.
        base: How images are normalised.
        data: Images of the classes.
        config: Settings of the training.
        device: Device to train on.
        seed: Seed of the batches.
        progress: Progress reporter.
    """
    if config.iterations > 0:
        with progress.stage("Fine-tuning", config.iterations) as stage:
            source = BatchSource(data, base, config, device, seed)
            fit(model, source, config, optimizer=make_optimizer(model, config), stage=stage)
    return Tuned(config)


def tune_warily(
    model: nn.Module,
    base: Base,
    data: ImageSet,
    config: FitConfig,
    *,
    device: torch.device,
    seed: int,
    progress: Progress,
) -> Tuned:
    """Fine-tune a network that works already, in place; with few images only as far as images left out gain by it.

    Arguments are those of `tune`.
    """
    if len(data) >= MANY_IMAGES or config.iterations == 0:
        return tune(model, base, data, config, device=device, seed=seed, progress=progress)
    if fold_count(data.labels, len(data.classes)) < 2:
        note = "a class has a single image, so that none can be left out to judge by: the member is delivered as it is"
        return Tuned(replace(config, iterations=0), warnings=(f"{note}; force training with --schedule fixed",))
    config = gentle(config)
    with progress.stage("Fine-tuning", steps(config, data)) as stage:
        mix = tune_mixed(model, data, base, config, device=device, seed=seed, stage=stage)
    if mix.share > 0:
        return Tuned(config, mix)
    note = (
        f"fine-tuning on {len(data)} images did not help on images left out (top-1 {mix.top1[0.0]:.1f} % without, "
        f"{mix.top1[1.0]:.1f} % with it): the member is delivered as it is; force it with --schedule fixed"
    )
    return Tuned(config, mix, (note,))


def harmed(before: Tensor, after: Tensor, labels: Tensor) -> bool:
    """Say whether fine-tuning lost more of the same test images than it won, by more than two standard errors.

    If it did nothing, each image on which the two differ would be as likely lost as won, so that the difference of the
    two counts has the standard error sqrt(lost + won).

    Args:
        before: Logits `(N, C)` before fine-tuning.
        after: Logits `(N, C)` after it.
        labels: `(N,)`.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947.
    """
    was, now = (logits.argmax(1) == labels for logits in (before, after))
    lost, won = int((was & ~now).sum()), int((now & ~was).sum())
    return lost - won > 2 * math.sqrt(lost + won)


def gentle(config: FitConfig) -> FitConfig:
    """Return settings that suit few images where `config` suits many."""
    return replace(
        config,
        lr=config.lr * GENTLE_RATE,
        iterations=math.ceil(config.iterations * GENTLE_STEPS),
        batch_size=min(config.batch_size, GENTLE_BATCH),
    )
