"""What a generalist says of real test images: enough to tell its accuracy on any of its classes without an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor

from mvp_edge.core.errors import ZooError
from mvp_edge.models.tensors import squeeze, unpack
from mvp_edge.names.tasks import canonical, numbered

_LEVELS = 255


@dataclass(frozen=True, eq=False)
class Outputs:
    """Logits `(N, C)` and labels `(N,)` of all images of a test split."""

    logits: Tensor
    labels: Tensor

    def of(self, classes: Sequence[str], known: Sequence[str]) -> Outputs:
        """Return the images and columns of some classes, in their order.

        Args:
            classes: The classes asked for, all among `known`.
            known: Names of the columns.
        """
        row = numbered(known)
        columns = torch.tensor([row[canonical(n)] for n in classes])
        place = torch.full((len(known),), -1)
        place[columns] = torch.arange(len(columns))
        labels = place[self.labels]
        return Outputs(self.logits[labels >= 0][:, columns], labels[labels >= 0])


def pack_outputs(outputs: Outputs) -> bytes:
    """Return outputs as bytes: 256 levels between the smallest and the largest logit of each image.

    One level is about a tenth, so that hardly any two logits change places: less than 0.1 point of accuracy.
    """
    low, high = outputs.logits.amin(1, keepdim=True), outputs.logits.amax(1, keepdim=True)
    scale = (high - low).clamp(min=1e-12) / _LEVELS
    levels = ((outputs.logits - low) / scale).round().to(torch.uint8)
    labels = outputs.labels.to(torch.int16)
    return squeeze(save({"levels": levels, "low": low, "scale": scale, "labels": labels}))


def unpack_outputs(data: bytes, where: str) -> Outputs:
    """Read what `pack_outputs` wrote.

    Raises:
        ZooError: the bytes are damaged.
    """
    try:
        t, _ = unpack(data)
        return Outputs(t["low"] + t["scale"] * t["levels"], t["labels"].long())
    except (ValueError, KeyError) as e:
        raise ZooError(f"{where} is damaged ({e}); remove its directory and build the member again") from e
