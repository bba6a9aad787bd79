"""Teacher logits: of a network for every augmented batch, or of the base model once for each image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mvp_edge.core.device import autocast, on_device
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import Stage
from mvp_edge.data import ImageSet
from mvp_edge.models.bases import Base, load_base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import canonical, numbered
from mvp_edge.training.loop import Batch, Batches, predict
from mvp_edge.zoo.location import bundled_zoos
from mvp_edge.zoo.remote import is_address
from mvp_edge.zoo.store import open_zoo


def load_teacher(name: str, base: Base, classes: Sequence[str]) -> nn.Module:
    """Return a frozen network that gives logits `(N, classes)` for images that are normalised for `base`.

    Args:
        name: A base model (name or file), or a zoo (name, directory or address), of which the largest generalist that
            knows most classes teaches: nearly as good as its base, at a fraction of the cost.
        base: What is to be trained.
        classes: Order of the outputs.

    Raises:
        ConfigError: the teacher is unknown, does not know a class, or takes other images.
    """
    theirs, network = _from_zoo(name) if _is_zoo(name) else load_base(name)
    row = numbered(theirs.classes)
    unknown = [n for n in classes if canonical(n) not in row]
    if unknown:
        raise ConfigError(f"teacher {name} does not know {', '.join(unknown[:3])}; choose one trained on these classes")
    if theirs.input_size != base.input_size:
        (h, w), (height, width) = theirs.input_size, base.input_size
        raise ConfigError(
            f"teacher {name} takes images of {h} x {w}, but {base.name} takes {height} x {width}; choose a teacher "
            "that takes images of the same size"
        )
    rows = torch.tensor([row[canonical(n)] for n in classes])
    return _TeacherNetwork(network, rows, theirs, base).eval().requires_grad_(False)


@dataclass(eq=False)
class Teacher:
    """Logits of the base model on training images; the images of a class are shown once, however many tasks have it."""

    prunable: PrunableModel
    device: torch.device
    _known: dict[bytes, Tensor] = field(default_factory=dict)

    def logits(self, data: ImageSet, stage: Stage | None = None) -> Tensor | None:
        """Return logits `(N, classes)` for the classes of `data`, or None if the base does not know them all."""
        row = numbered(self.prunable.base.classes)
        if not all(canonical(n) in row for n in data.classes):
            return None
        rows = [row[canonical(n)] for n in data.classes]
        out = torch.empty(len(data), len(self.prunable.base.classes))
        for label in range(len(data.classes)):
            mine = data.labels == label
            key = hashlib.sha256(data.images[mine].numpy().tobytes()).digest()
            if key not in self._known:
                self._known[key] = predict(
                    on_device(self.prunable.model, self.device),
                    data.images[mine], self.prunable.base, self.device, stage=stage, bf16=True,
                )  # fmt: skip
            out[mine] = self._known[key]
        return out[:, rows]


class Taught:
    """Batches with teacher logits; the teacher sees exactly what the student sees.

    References:
        Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", 2022.
    """

    def __init__(self, source: Batches, teacher: nn.Module) -> None:
        self.device, self.seed = source.device, source.seed
        self._source, self._teacher = source, on_device(teacher, source.device)

    @torch.no_grad()
    def next(self) -> Batch:
        """Return the next batch."""
        batch = self._source.next()
        with autocast(self.device, bf16=True):
            return replace(batch, teacher=self._teacher(batch.images).float())

    def skip(self, n: int) -> None:
        """Pass over `n` batches as if they had been drawn."""
        self._source.skip(n)


class _TeacherNetwork(nn.Module):
    """A network with its outputs in another order, for images normalised in another way."""

    def __init__(self, network: nn.Module, rows: Tensor, theirs: Base, ours: Base) -> None:
        super().__init__()
        self.network, self.rows = network, rows
        ratio = torch.tensor(ours.std) / torch.tensor(theirs.std)
        shift = (torch.tensor(ours.mean) - torch.tensor(theirs.mean)) / torch.tensor(theirs.std)
        self.ratio, self.shift = ratio.view(3, 1, 1), shift.view(3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images * self.ratio.to(images) + self.shift.to(images))[:, self.rows]


def _is_zoo(name: str) -> bool:
    return is_address(name) or name in bundled_zoos() or Path(name).is_dir()


def _from_zoo(name: str) -> tuple[Base, nn.Module]:
    zoo = open_zoo(name)
    generalist = zoo.generalists()
    model = zoo.load_base()
    if not generalist:
        return zoo.base, model
    best = min(generalist, key=lambda i: (-len(i.task.names), i.sort_key))
    return replace(zoo.base, classes=best.task.names), zoo.load(best).network(PrunableModel.of(zoo.base, model))
