"""Making the exemplars of a zoo: a few generated images of every class of its base model."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvp_edge.build.inversion import Critic, invert
from mvp_edge.config import ExemplarConfig
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import Base
from mvp_edge.models.heads import shared_rows
from mvp_edge.core.device import on_device
from mvp_edge.core.progress import Progress
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo
from mvp_edge.zoo.exemplars import FILE, Exemplars, read_exemplars, write_exemplars

CLAIM = "exemplars"
METHOD = "inversion"


def build_exemplars(
    zoo: Zoo, prunable: PrunableModel, config: ExemplarConfig, *, device: torch.device, seed: int, progress: Progress
) -> Exemplars:
    """Generate images of all classes of a zoo's base model and store them in the zoo.

    Each finished batch is kept, so that the same call goes on after an interruption; a finished set made with the same
    settings is returned as it is, another one is replaced.

    Raises:
        ConfigError: the base model has no class names or no batch norms.
        ZooError: another process is making them, or the zoo cannot be written.
    """
    _require_classes(prunable.base)
    members = all_knowing(zoo) if config.critics > 0 else []
    recipe = {"method": METHOD, **asdict(config), "seed": seed, "critic_members": [m.id for m in members]}
    place = zoo.directory / FILE
    with zoo.claim(CLAIM) as mine:
        if not mine:
            raise ZooError(f"another process is making the exemplars of zoo {zoo.name}; wait until it has finished")
        there = _readable(zoo)
        if there is not None and there.recipe == recipe:
            return there
        critics = [Critic(_placed(prunable.model, device), cutout=config.cutout)]
        critics += [_as_critic(zoo, prunable, m, config.critics / len(members), device) for m in members]
        parts = schedule(len(prunable.base.classes), config, seed)
        drafts = _Drafts(zoo, recipe)
        images = []
        with progress.stage("Exemplars", config.steps * len(parts)) as stage:
            for number, labels in enumerate(parts):
                made = drafts.read(number)
                if made is None:
                    draw = torch_rng(seed, f"exemplars/{number}")
                    made = invert(critics, prunable.base, labels, config, generator=draw, device=device, stage=stage)
                    drafts.write(number, made, labels, prunable.base.classes)
                else:
                    stage.advance(config.steps)
                images.append(made)
        labels = torch.cat(parts)
        order = labels.argsort(stable=True)
        done = Exemplars(torch.cat(images)[order], labels[order], prunable.base.classes, zoo.base.sha256, recipe)
        write_exemplars(place, done)
        drafts.remove()
    return done


def share_exemplars(zoo: Zoo, source: Zoo) -> Exemplars:
    """Give a zoo the images that another has generated of all its classes: for a base without batch norms.

    Those of a bundled zoo are referred to, others are copied. Their recipe tells whose they are.

    Raises:
        ConfigError: the base model has no class names.
        ZooError: the other zoo has no such images, or not of all classes; or the zoo cannot be written.
    """
    _require_classes(zoo.base)
    theirs = source.exemplars()
    if theirs is None:
        make = f"mvp-edge zoo exemplars {source.name}"
        raise ZooError(f"zoo {source.name} has no generated images; make them with: {make}")
    done = theirs.lent(zoo.base)
    if source.growth is not None and zoo.growth is None:
        zoo.borrow_exemplars(source.name)
    else:
        write_exemplars(zoo.directory / FILE, done)
    return done


def _require_classes(base: Base) -> None:
    if not base.classes:
        raise ConfigError(f"base {base.name} does not name its classes; train it with: mvp-edge pretrain")


def all_knowing(zoo: Zoo) -> list[MemberInfo]:
    """Return the generalists that know all classes of the base model, sorted by id."""
    everything = Task(tuple(TaskClass(c) for c in zoo.base.classes))
    return sorted(zoo.knowing(everything), key=lambda i: i.id)


def _readable(zoo: Zoo) -> Exemplars | None:
    try:
        return zoo.exemplars()
    except ZooError:
        return None  # this command is what repairs it


def schedule(classes: int, config: ExemplarConfig, seed: int) -> list[Tensor]:
    """Return the labels of each batch: every class `per_class` times, batches nearly equal and as mixed as can be."""
    draw = rng(seed, "exemplars/order")
    order = torch.cat([torch.from_numpy(draw.permutation(classes)) for _ in range(config.per_class)])
    return list(order.tensor_split(-(-len(order) // config.batch_size)))


def _as_critic(zoo: Zoo, prunable: PrunableModel, info: MemberInfo, weight: float, device: torch.device) -> Critic:
    model = zoo.load(info).network(prunable)
    head = shared_rows(prunable.base.classes, info.task.names, head_of(model))
    assert head is not None
    set_head(model, head)
    cutout = int(info.recipe.get("fit", {}).get("cutout", 0))
    return Critic(_placed(model, device), weight, cutout)


def _placed(model: nn.Module, device: torch.device) -> nn.Module:
    return on_device(model, device).eval()


class _Drafts:
    """Finished batches of a recipe, beside the zoo's members until all are done."""

    def __init__(self, zoo: Zoo, recipe: dict[str, Any]) -> None:
        self._sha256 = zoo.base.sha256
        digest = hashlib.sha256(json.dumps([recipe, self._sha256], sort_keys=True).encode()).hexdigest()
        self._directory: Path = zoo.directory / ".exemplars"
        self._prefix = digest[:12]

    def read(self, number: int) -> Tensor | None:
        try:
            found = read_exemplars(self._path(number), self._sha256, "")
        except ZooError:
            return None  # it is made again
        return None if found is None else found.images

    def write(self, number: int, images: Tensor, labels: Tensor, classes: tuple[str, ...]) -> None:
        write_exemplars(self._path(number), Exemplars(images, labels, classes, self._sha256))

    def remove(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._prefix}-{number}.safetensors"
