"""Generated images that travel with a zoo: one safetensors file that carries its own recipe and checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ZooError
from mvp_edge.data import ImageSet
from mvp_edge.models.bases import Base
from mvp_edge.names.tasks import canonical, numbered

FILE = "exemplars.safetensors"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Generated images of the classes of a base model.

    Attributes:
        images: uint8 RGB `(N, 3, H, W)`.
        labels: int64 `(N,)`, positions in `classes`.
        classes: Names of all classes of the base model.
        base_sha256: Checksum of the base model's weights they were made from.
        recipe: How they were made: method, settings, critics, seed.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    base_sha256: str
    recipe: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def cover(self, names: Sequence[str]) -> bool:
        """Say whether there are images of all classes `names`."""
        return numbered(names).keys() <= numbered(self.classes).keys()

    def load(self, names: Sequence[str]) -> ImageSet:
        """Return the images of some classes, labelled by their position in `names`.

        Raises:
            ZooError: the base model does not know all of them.
        """
        position = numbered(self.classes)
        unknown = [n for n in names if canonical(n) not in position]
        if unknown:
            raise ZooError(f"there are no generated images of {', '.join(unknown)}; give images with --data")
        found = [(self.labels == position[canonical(n)]).nonzero()[:, 0] for n in names]
        labels = torch.cat([torch.full_like(index, i) for i, index in enumerate(found)])
        return ImageSet(self.images[torch.cat(found)], labels, tuple(names))

    def lent(self, base: Base) -> Exemplars:
        """Return them for another base model that knows no classes but these; the recipe tells whose they are.

        Raises:
            ZooError: it knows others.
        """
        mine = self.load(base.classes)
        recipe = {**self.recipe, "base_sha256": self.base_sha256}
        return Exemplars(mine.images, mine.labels, base.classes, base.sha256, recipe)


def pack_exemplars(exemplars: Exemplars) -> bytes:
    """Return exemplars as safetensors bytes."""
    tensors = {"images": exemplars.images.contiguous(), "labels": exemplars.labels.to(torch.int16)}
    meta = {
        "format": FORMAT,
        "base_sha256": exemplars.base_sha256,
        "classes": exemplars.classes,
        "recipe": exemplars.recipe,
        "sha256": _checksum(tensors),
    }
    return save(tensors, metadata={"mvp_edge": json.dumps(meta)})


def write_exemplars(path: Path, exemplars: Exemplars) -> None:
    """Write what `pack_exemplars` returns, all or nothing.

    Raises:
        ZooError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, pack_exemplars(exemplars))
    except OSError as e:
        raise ZooError(f"{path} cannot be written ({e.strerror or e}); make room or copy the zoo") from e


def read_exemplars(path: Path, base_sha256: str, repair: str) -> Exemplars | None:
    """Read what `write_exemplars` wrote; None if there is no such file.

    Args:
        path: The file.
        base_sha256: Checksum of the base model that they must have been made from.
        repair: What the user is told to do about a damaged file.

    Raises:
        ZooError: it is damaged, of another format, or made from another base model.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in ("images", "labels")}
            meta = json.loads((file.metadata() or {})["mvp_edge"])
        if meta["format"] != FORMAT:
            raise ZooError(f"{path} has format {meta['format']!r}; this version reads {FORMAT}")
        if meta["sha256"] != _checksum(tensors):
            raise ZooError(f"{path} does not match its checksum; {repair}")
        found = Exemplars(
            tensors["images"], tensors["labels"].long(), tuple(meta["classes"]), meta["base_sha256"], meta["recipe"]
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as e:
        raise ZooError(f"{path} is damaged ({e}); {repair}") from e
    if found.base_sha256 != base_sha256:
        raise ZooError(
            f"{path} was made from another base model ({found.base_sha256[:12]}) than this zoo's ({base_sha256[:12]}); "
            f"{repair}"
        )
    return found


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
