"""The early layers of a network that keep their weights: frozen, and computed once for some views of each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from mvp_edge.config import FitConfig
from mvp_edge.core.device import autocast
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import augment, batches, forward_batch, normalise
from mvp_edge.models.bases import Base
from mvp_edge.training.loop import Batch

VIEWS = 6  # of an image, at most: shifted and mirrored at random


def freeze_early(network: nn.Module) -> None:
    """Let the first half of timm's layer groups of a network keep its weights, in place.

    At a phone network's full resolution lie most of a step's seconds and few of its weights. On tasks of five kinds of
    clothing (20 and 100 photographs a class) training the other half gained as much as training all of it, in half of
    the time.
    """
    timm_network: Any = network
    groups = group_parameters(timm_network, timm_network.group_matcher(coarse=True))
    early = {name for part in list(groups.values())[: len(groups) // 2] for name in part}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in early)


def frozen_layers(network: nn.Module, images: Tensor) -> tuple[nn.Module, ...]:
    """Return the frozen modules that a network starts with, outermost ones, in their order.

    Args:
        network: In evaluation mode.
        images: Normalised `(N, 3, H, W)`, to see that what they make of these is all that the other layers need.

    Returns:
        None of them if other computations lie between.
    """
    layers = tuple(_frozen_in(network))
    with torch.no_grad():
        whole = network(images)
        try:
            hidden = passed(layers, images)
            with skipped(layers):
                parted = network(hidden)
        except RuntimeError:  # of shapes
            return ()
    return layers if torch.equal(whole, parted) else ()


def _frozen_in(module: nn.Module) -> list[nn.Module]:
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        return [module]
    return [layer for child in module.children() for layer in _frozen_in(child)]


@torch.no_grad()
def passed(layers: Sequence[nn.Module], values: Tensor) -> Tensor:
    """Return what is behind some layers."""
    for layer in layers:
        values = layer(values)
    return values


@contextmanager
def skipped(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Let a network hand on for a while what these layers are given."""
    former = [(layer, type(layer)) for layer in layers]
    for layer, form in former:
        cast(Any, layer).__class__ = type(form.__name__, (form,), {"forward": lambda _, values: values})
    try:
        yield
    finally:
        for layer, form in former:
            cast(Any, layer).__class__ = form


def frozen_views(
    network: nn.Module, images: Tensor, base: Base, settings: FitConfig, seed: int, device: torch.device
) -> Views | None:
    """Return what a network's frozen layers make of images for a training.

    Args:
        network: With frozen layers, in evaluation mode, channels last, on `device`.
        images: uint8 `(N, 3, H, W)`.
        base: How they are normalised.
        settings: Of the training.
        seed: View `k` of a seed is always the same.
        device: Where to compute.

    Returns:
        None where computing them for each batch costs less, or they do not suffice for the layers behind them.
    """
    count = min(VIEWS, settings.iterations * settings.batch_size // len(images))
    if count == 0 or settings.norms != "fixed" or settings.cutout:
        return None
    layers = frozen_layers(network, normalise(images[:2].to(device), base.mean, base.std))
    return Views(layers, images, base, count, settings.crop, seed, device) if layers else None


class Views:
    """What frozen layers make of a few views of each image, for several trainings of the layers behind them.

    Args:
        layers: Frozen, on `device`.
        images: uint8 `(N, 3, H, W)`.
        base: How images are normalised.
        count: Of each image.
        crop: Largest shift of a view in pixels.
        seed: View `k` of a seed is always the same.
        device: Where to compute. The result is kept there, in float16.
    """

    def __init__(
        self, layers: Sequence[nn.Module], images: Tensor, base: Base, count: int, crop: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.layers, self.count, self.device = tuple(layers), count, device
        found = list[Tensor]()
        for view in range(count):
            seen = augment(images, torch_rng(seed, f"view {view}"), crop, 0, mean=base.mean)
            for part in seen.split(forward_batch(seen)):
                with autocast(device, bf16=True):
                    found.append(passed(layers, normalise(part.to(device), base.mean, base.std)).half())
        self._values = torch.cat(found).unflatten(0, (count, len(images)))

    def of(self, view: Tensor, image: Tensor) -> Tensor:
        """Return what is behind the layers `(B, C, H, W)`, channels last, for views and images `(B,)`."""
        return self._values[view, image].float().contiguous(memory_format=torch.channels_last)


class ViewBatches:
    """Draws batches of views: batch `k` of a seed is always the same.

    Args:
        views: Of all images.
        labels: `(N,)`.
        index: Positions of the images to draw from; one may come several times.
        config: Batch size, and number of batches.
        seed: Of the order, and of which view is drawn.
        teacher: Its logits for all images, `(N, C)`.
    """

    def __init__(
        self, views: Views, labels: Tensor, index: np.ndarray, config: FitConfig, seed: int,
        teacher: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.views, self.labels, self.device, self.seed = views, labels.to(views.device), views.device, seed
        self.teacher = None if teacher is None else teacher.to(views.device)
        self._index = torch.from_numpy(index)
        self._order = batches(len(index), config.batch_size, config.iterations, rng(seed, "batches"))
        self._draw = rng(seed, "views")

    def next(self) -> Batch:
        """Return the next batch."""
        view, image = self._drawn()
        return Batch(
            self.views.of(view, image), self.labels[image], None if self.teacher is None else self.teacher[image]
        )

    def skip(self, n: int) -> None:
        """Pass over `n` batches as if they had been drawn."""
        for _ in range(n):
            self._drawn()

    def _drawn(self) -> tuple[Tensor, Tensor]:
        image = self._index[torch.from_numpy(next(self._order))]
        view = torch.from_numpy(self._draw.integers(self.views.count, size=len(image)))
        return view.to(self.device), image.to(self.device)
