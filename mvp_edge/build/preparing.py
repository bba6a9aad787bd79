"""An empty zoo for a base model, whose batch norms are measured anew if they were folded away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mvp_edge.data import DataSource
from mvp_edge.models.bases import Base
from mvp_edge.models.norms import IMAGES, is_folded, unfold
from mvp_edge.core.device import on_device, on_host
from mvp_edge.core.progress import Progress
from mvp_edge.core.streams import rng
from mvp_edge.zoo.store import create_zoo
from mvp_edge.zoo.store import Zoo, open_zoo

NORM_CLASSES = 16  # whose images batch norms are measured on


def prepare_zoo(
    directory: Path, base: Base, model: nn.Module, data: DataSource, *, device: torch.device, progress: Progress
) -> tuple[Zoo, list[str]]:
    """Open the zoo of a base model, or make an empty one; its base can be trained.

    Batch norms that were folded into the convolutions are measured anew on images of the data. The recipe of the zoo's
    base tells of it, and which weights it came from.

    Returns:
        The zoo, and what the user should know.

    Raises:
        DataError: images cannot be read.
        ZooError: the directory holds something else or a zoo of another base model, or cannot be written.
    """
    if not is_folded(model):
        return create_zoo(directory, base, model), []
    told = f"batch norms measured anew, folded in the weights {base.sha256[:12]}"
    if (directory / "zoo.json").exists() and (zoo := open_zoo(str(directory))).base.recipe.endswith(told):
        return zoo, []
    with progress.stage("Measuring batch norms"):
        images = _sample(data, base)
        unfold(on_device(model, device), images, base, device)
    on_host(model)
    note = (
        f"the batch norms of {base.name} were folded into its convolutions; they were measured anew on {len(images)} "
        "images: the network computes the same, and can be trained"
    )
    return create_zoo(directory, replace(base, recipe=f"{base.recipe}; {told}".removeprefix("; ")), model), [note]


def _sample(data: DataSource, base: Base) -> Tensor:
    """Return uint8 images `(N, 3, H, W)` of classes spread over the data; only one class is in memory at a time."""
    chosen = data.classes[:: max(1, len(data.classes) // NORM_CLASSES)][:NORM_CLASSES]
    share, draw = max(1, IMAGES // len(chosen)), rng(0, "norms")
    parts = (data.load([name], "train", base.input_size).at_most(share, draw) for name in chosen)
    return torch.cat([part.images for part in parts])
