"""Fine-tuning of an assembled network on the task's images (Algorithm 1, line 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mvp_edge.config import FitConfig, PruneConfig
from mvp_edge.core.progress import Progress, Stopwatch
from mvp_edge.data import ImageSet
from mvp_edge.models.bases import Base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.training.interpolation import Interpolation, fold_count, steps, tune_interpolated
from mvp_edge.training.loop import BatchSource, fit, make_optimizer, predict
from mvp_edge.training.optimizers import resolve_fit

MANY_IMAGES = 2000  # in all: fine-tuning on so many has always helped
GENTLE_RATE, GENTLE_STEPS, GENTLE_BATCH = 1 / 3, 1 / 2, 64  # of the settings for many images; largest batch


@dataclass(frozen=True)
class Tuned:
    """How a network was fine-tuned.

    Attributes:
        fit: Settings of each training run; no iterations if there was none.
        interpolation: The interpolation weight chosen on held-out images, if there were few images.
        warnings: Warnings for the user.
    """

    fit: FitConfig
    interpolation: Interpolation | None = None
    warnings: tuple[str, ...] = ()

    @property
    def iterations(self) -> int:
        """Optimiser steps in all."""
        return self.fit.iterations * (self.interpolation.folds if self.interpolation else 1)

    @property
    def untouched(self) -> bool:
        """Whether the network is unchanged: it was not trained, or training did not help on held-out images."""
        return self.iterations == 0 or (self.interpolation is not None and self.interpolation.weight == 0)


def fine_tune(
    model: nn.Module,
    prunable: PrunableModel,
    train: ImageSet | None,
    test: ImageSet | None,
    config: PruneConfig,
    *,
    works: bool,
    device: torch.device,
    progress: Progress,
    clock: Stopwatch,
) -> tuple[Tuned, Tensor | None]:
    """Fine-tune an assembled network in place, if there are images.

    Args:
        model: On `device`.
        prunable: The base model.
        train: Training images, if there are any.
        test: Test images; they are only predicted, before training, for the report.
        config: Settings, schedule and seed.
        works: Whether the network works already, so that few images may make it worse.
        device: Device to train on.
        progress: Progress reporter.
        clock: Stopwatch of the run.

    Returns:
        How it was fine-tuned, and its logits `(N, C)` for the test images before, if it was changed.
    """
    recipe = resolve_fit(config.fit, "prune", prunable.model)
    if train is None:
        return Tuned(replace(recipe, iterations=0)), None
    before = None
    if test is not None and recipe.iterations > 0:
        with clock.time("evaluate"):
            before = predict(model, test.images, prunable.base, device)
    with clock.time("fine_tune"):
        how = tune_low_data if config.schedule == "auto" and works else tune
        tuned = how(model, prunable.base, train, recipe, device=device, seed=config.seed, progress=progress)
    return tuned, None if tuned.untouched else before


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


def tune_low_data(
    model: nn.Module,
    base: Base,
    data: ImageSet,
    config: FitConfig,
    *,
    device: torch.device,
    seed: int,
    progress: Progress,
) -> Tuned:
    """Fine-tune a network that works already, in place; with few images, as far as it helps on held-out images.

    Arguments as for `tune`.
    """
    if len(data) >= MANY_IMAGES or config.iterations == 0:
        return tune(model, base, data, config, device=device, seed=seed, progress=progress)
    if fold_count(data.labels, len(data.classes)) < 2:
        note = (
            "a class has a single image, so none can be held out to check fine-tuning: the member is delivered as it is"
        )
        return Tuned(replace(config, iterations=0), warnings=(f"{note}; force training with --schedule fixed",))
    config = gentle(config)
    with progress.stage("Fine-tuning", steps(config, data)) as stage:
        chosen = tune_interpolated(model, data, base, config, device=device, seed=seed, stage=stage)
    if chosen.weight > 0:
        return Tuned(config, chosen)
    note = (
        f"fine-tuning on {len(data)} images did not help on held-out images (top-1 {chosen.top1[0.0]:.1f} % without, "
        f"{chosen.top1[1.0]:.1f} % with it): the member is delivered as it is; force it with --schedule fixed"
    )
    return Tuned(config, chosen, (note,))


def gentle(config: FitConfig) -> FitConfig:
    """Return settings for few images, derived from settings for many."""
    return replace(
        config,
        lr=config.lr * GENTLE_RATE,
        iterations=math.ceil(config.iterations * GENTLE_STEPS),
        batch_size=min(config.batch_size, GENTLE_BATCH),
    )
