"""Fine-tuning of an assembled network on the task's images (Algorithm 1, line 9)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.config import FitConfig, PruneConfig
from mvp_edge.core.device import on_host
from mvp_edge.core.progress import Progress, Stopwatch
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet, evened
from mvp_edge.models.architectures import set_head
from mvp_edge.models.bases import Base
from mvp_edge.models.heads import ridge_head
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.prune.gate import JUDGED_IMAGES
from mvp_edge.training.interpolation import Interpolation, balanced_top1, fold_count, steps, tune_interpolated
from mvp_edge.training.loop import BatchSource, fit, predict
from mvp_edge.training.optimizers import make_optimizer, resolve_fit

MANY_IMAGES = 2000  # in all, in classes of similar size: from so many on one check replaces cross-validation
HELD_OUT, HELD_OUT_MOST = 10, 500  # one of so many images of each class; in all
UNCHECKED = (
    "of each class there is a single image, or a single group of them, so that none can be held out to check "
    "fine-tuning: it is left out; force it with --schedule fixed"
)
UNVALIDATED = (
    "a class has a single image, or a single group of them, so that fine-tuning cannot be cross-validated: the member "
    "is delivered as it is; force it with --schedule fixed"
)
GENTLE_RATE, GENTLE_STEPS, GENTLE_BATCH = 1 / 3, 1 / 2, 64  # of the settings for many images; largest batch


@dataclass(frozen=True, eq=False)
class Unseen:
    """Images held out of training, on which choices are made.

    Attributes:
        images: The images.
        trained: The other images.
        state: Tensors of a network that was trained on these only; None for the delivered network, which was.
    """

    images: ImageSet
    trained: ImageSet
    state: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, eq=False)
class Tuned:
    """How a network was fine-tuned.

    Attributes:
        fit: Settings of each training run; no iterations if none is kept.
        iterations: Optimiser steps in all, those of trainings that only judge among them.
        interpolation: The interpolation weight chosen on held-out images, if there were few images.
        warnings: Warnings for the user.
        unseen: Where a network was trained without a part of the images, to judge by it: that part, and that network.
    """

    fit: FitConfig
    iterations: int = 0
    interpolation: Interpolation | None = None
    warnings: tuple[str, ...] = ()
    unseen: Unseen | None = None

    @property
    def untouched(self) -> bool:
        """Whether the network is unchanged: it was not trained, or training did not help on held-out images."""
        return self.fit.iterations == 0 or (self.interpolation is not None and self.interpolation.weight == 0)


def is_low_data(data: ImageSet, config: PruneConfig, *, works: bool) -> bool:
    """Return whether cross-validation decides how much of the fine-tuning is kept: images are few, or imbalanced.

    Args:
        data: All training images.
        config: Settings and schedule.
        works: Whether the network works already, so that few images may make it worse.
    """
    few = len(data) < MANY_IMAGES or imbalanced(data)
    return is_checked(config) and works and few


def is_checked(config: PruneConfig) -> bool:
    """Return whether images held out decide if fine-tuning is kept."""
    return config.schedule == "auto" and config.fit.iterations != 0


def hold_out(
    data: ImageSet, val: ImageSet | None, config: PruneConfig, *, low_data: bool
) -> tuple[ImageSet, ImageSet | None]:
    """Return the images to train on, and those that decide whether fine-tuning and a second precision are kept.

    These are the validation images, if there are enough. Otherwise a tenth of each class is held out, unless nothing is
    to be decided, cross-validation holds images out anyway, or they would be too few to decide about a precision.

    Args:
        data: All training images.
        val: Validation images, if the data have them.
        config: Precision, schedule and seed.
        low_data: Result of `is_low_data`.
    """
    if val is not None and len(val) >= JUDGED_IMAGES:
        return data, val
    rest, held = a_tenth(data, config.seed)
    decides = config.precision != "fp32" or is_checked(config)
    return (rest, held) if decides and not low_data and len(held) >= JUDGED_IMAGES else (data, None)


def a_tenth(data: ImageSet, seed: int, least: int = 3) -> tuple[ImageSet, ImageSet]:
    """Return images without a tenth of each class, and this tenth, of bounded size.

    Groups are held out as a whole. Classes with fewer than `least` images, or groups of them, are not held out.
    """
    most, table = max(1, HELD_OUT_MOST // len(data.classes)), data.grouping
    order = rng(seed, "held-out").permutation(len(data) if table is None else len(table))
    held = torch.zeros(len(data), dtype=torch.bool)
    if table is not None:
        held[data.in_groups(_a_tenth_of_groups(table[order], most, least, order))] = True
    else:
        drawn = torch.from_numpy(order)
        for label, count in enumerate(torch.bincount(data.labels).tolist()):
            if count >= least:
                held[drawn[data.labels[drawn] == label][: min(most, math.ceil(count / HELD_OUT))]] = True
    return data.subset((~held).nonzero().flatten()), data.subset(held.nonzero().flatten())


def _a_tenth_of_groups(table: np.ndarray, most: int, least: int, numbers: np.ndarray) -> np.ndarray:
    """Return the groups that are held out.

    They are those that fit into a tenth of each of their classes, and, of a class that has none of these, its smallest
    group, if that leaves half of each class.

    Args:
        table: Images `(groups, classes)` of each class, in random order.
        most: Images of a class that are held out, at most.
        least: Groups that a class needs.
        numbers: Of the groups.
    """
    total = table.sum(0)
    room = np.where((table > 0).sum(0) >= least, np.minimum(most, -(-total // HELD_OUT)), 0)
    held, chosen = np.zeros_like(total), np.zeros(len(table), bool)
    for group in range(len(table)):
        if (held + table[group] <= np.where(table[group] > 0, room, held)).all():
            chosen[group] = True
            held += table[group]
    for label in np.flatnonzero((held == 0) & (room > 0)):
        sizes = np.where((table[:, label] > 0) & ((held + table <= total // 2) | (table == 0)).all(1), table.sum(1), 0)
        if sizes.any() and held[label] == 0:
            group = int(np.flatnonzero(sizes)[np.argmin(sizes[sizes > 0])])
            chosen[group] = True
            held += table[group]
    return numbers[chosen]


def fine_tune(
    model: nn.Module,
    prunable: PrunableModel,
    train: ImageSet | None,
    held: ImageSet | None,
    test: ImageSet | None,
    config: PruneConfig,
    *,
    low_data: bool,
    device: torch.device,
    progress: Progress,
    clock: Stopwatch,
) -> tuple[Tuned, Tensor | None]:
    """Fine-tune an assembled network in place, if there are images.

    Args:
        model: On `device`.
        prunable: The base model.
        train: Training images, if there are any.
        held: Images held out of training, if there are any.
        test: Test images; they are only predicted, before training, for the report.
        config: Settings, schedule and seed.
        low_data: Result of `is_low_data`.
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
        how = tune_low_data if low_data else partial(tune_checked, held=held) if is_checked(config) else tune
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
    rows: np.ndarray | None = None,
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
        rows: Positions to draw from, as for `BatchSource`.
    """
    if config.iterations > 0:
        with progress.stage("Fine-tuning", config.iterations) as stage:
            source = BatchSource(data, base, config, device, seed, rows=rows)
            fit(model, source, config, optimizer=make_optimizer(model, config), stage=stage)
    return Tuned(config, config.iterations)


def tune_checked(
    model: nn.Module,
    base: Base,
    data: ImageSet,
    config: FitConfig,
    *,
    held: ImageSet | None,
    device: torch.device,
    seed: int,
    progress: Progress,
) -> Tuned:
    """Fine-tune a network in place, on batches of equally many images of each class, unless that harms.

    It harms where the balanced accuracy on images held out, `held`, is lower than before. Where that is None, images
    are so few that all are needed: the check is a training without a tenth, from a head fitted without it.

    Other arguments as for `tune`.
    """
    tuning = partial(tune, config=config, device=device, seed=seed, progress=progress)
    start, part, judges = model, data, held
    if judges is None:
        part, judges = a_tenth(data, seed, least=2)
        if len(judges) == 0:
            return Tuned(replace(config, iterations=0), warnings=(UNCHECKED,))
        start = copy.deepcopy(model)
        set_head(start, ridge_head(start, part, base, device).to(device))
    before = {k: v.clone() for k, v in start.state_dict().items()}
    was = balanced_top1(predict(start, judges.images, base, device), judges.labels)
    tuning(start, base, part, rows=evened(part.labels))
    now = balanced_top1(predict(start, judges.images, base, device), judges.labels)
    if now < was:
        start.load_state_dict(before)
        note = (
            f"fine-tuning did not help on {len(judges)} held-out images (balanced accuracy {was:.1f} % without, "
            f"{now:.1f} % with it): it is left out; force it with --schedule fixed"
        )
        tuned = Tuned(replace(config, iterations=0), warnings=(note,))
    else:
        tuned = Tuned(config) if held is not None else tuning(model, base, data, rows=evened(data.labels))
    tuned = replace(tuned, iterations=tuned.iterations + config.iterations)  # and the training that judged
    return tuned if held is not None else replace(tuned, unseen=Unseen(judges, part, on_host(start).state_dict()))


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
    """Fine-tune a network that works already on few images, in place, as far as it helps on held-out images.

    Arguments as for `tune`.
    """
    if fold_count(data) < 2:
        return Tuned(replace(config, iterations=0), warnings=(UNVALIDATED,))
    config = gentle(config)
    with progress.stage("Fine-tuning", steps(config, data)) as stage:
        chosen, first = tune_interpolated(model, data, base, config, device=device, seed=seed, stage=stage)
    unseen = Unseen(data.subset(first.left_out), data.subset(first.rest), first.state)
    if chosen.weight > 0:
        return Tuned(config, steps(config, data), chosen, unseen=unseen)
    note = (
        f"fine-tuning on {len(data)} images did not help on held-out images (balanced accuracy "
        f"{chosen.top1[0.0]:.1f} % without, {chosen.top1[1.0]:.1f} % with it): the member is delivered as it is; force "
        "it with --schedule fixed"
    )
    return Tuned(config, steps(config, data), chosen, (note,), unseen)


def imbalanced(data: ImageSet) -> bool:
    """Return whether images of small classes have to be drawn more often."""
    return len(evened(data.labels)) > len(data)


def gentle(config: FitConfig) -> FitConfig:
    """Return settings for few images, derived from settings for many."""
    return replace(
        config,
        lr=config.lr * GENTLE_RATE,
        iterations=math.ceil(config.iterations * GENTLE_STEPS),
        batch_size=min(config.batch_size, GENTLE_BATCH),
    )
