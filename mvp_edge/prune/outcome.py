"""What a run has made before it is delivered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvp_edge.config import Similarity
from mvp_edge.data import ImageSet
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.prune.known import KnownScore, Size
from mvp_edge.prune.tuning import Tuned
from mvp_edge.voting.neighbours import Neighbour


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run has made so far.

    Attributes:
        task: Its classes.
        test: Real images that nothing was trained on, if there are any.
        known: How good the network is known to be, where there are no images.
        sizes: Ready-made models of all sizes and how good they are known to be, where there are no images.
        source: Name of the data.
        zoo: Name of the zoo.
        prunable: The base model.
        neighbours: Who voted.
        similarity: What made them the nearest.
        plan: What was kept.
        model: The network, on the CPU, in evaluation mode.
        tuned: How it was fine-tuned; no iterations if it was not.
        device: Where it was trained.
        warnings: What the user should know so far.
        requested: Units of each group that were asked for, before counts were raised where that costs no time.
        digest: Checksum of the training images, if there are any.
        calibration: uint8 training images `(N, 3, H, W)`, for INT8.
        before: Logits `(N, classes)` of the network for the test images before it was fine-tuned, if it was.
    """

    task: Task
    test: ImageSet | None
    known: KnownScore | None
    sizes: Sequence[Size]
    source: str | None
    zoo: str
    prunable: PrunableModel
    neighbours: Sequence[Neighbour]
    similarity: Similarity
    plan: KeepPlan
    model: nn.Module
    tuned: Tuned
    device: torch.device
    warnings: Sequence[str]
    requested: Mapping[str, int]
    digest: str | None = None
    calibration: Tensor | None = None
    before: Tensor | None = None
