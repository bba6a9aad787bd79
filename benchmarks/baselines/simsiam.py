"""SimSiam: a base model trained without labels, by making two views of an image predict each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.config import FitConfig
from mvp_edge.core.device import autocast
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import ImageSet, batches, normalise, scaled_down
from mvp_edge.models.bases import Base
from mvp_edge.training.checkpoint import Checkpoint
from mvp_edge.training.loop import learning_rate
from mvp_edge.training.optimizers import make_optimizer

SAVE_EVERY = 50


class SimSiam(nn.Module):
    """An encoder, a projector that is thrown away, and a predictor between the two views.

    References:
        Chen and He, "Exploring Simple Siamese Representation Learning", 2021.
    """

    encoder: Any

    def __init__(self, encoder: nn.Module, width: int = 2048, bottleneck: int = 512) -> None:
        super().__init__()
        self.encoder = encoder
        features = int(self.encoder.num_features)
        self.projector = nn.Sequential(
            nn.Linear(features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True),
            nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True),
            nn.Linear(width, width, bias=False), nn.BatchNorm1d(width, affine=False),
        )  # fmt: skip
        self.predictor = nn.Sequential(
            nn.Linear(width, bottleneck, bias=False), nn.BatchNorm1d(bottleneck), nn.ReLU(inplace=True),
            nn.Linear(bottleneck, width),
        )  # fmt: skip

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return projections and predictions `(N, width)` of normalised images."""
        maps = self.encoder.forward_features(images)
        z = self.projector(self.encoder.forward_head(maps, pre_logits=True))
        return z, self.predictor(z)


def loss_of(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Return the symmetric negative cosine, in [-1, 1]; no gradient flows into the projections."""
    (z1, p1), (z2, p2) = first, second
    return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) / 2


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random view of each uint8 image `(N, 3, H, W)`: crop of 0.2 to 1 of the area, flip, colours, grey.

    Of the published recipe this leaves out hue and, as for CIFAR elsewhere, blur.
    """
    n, device = len(images), images.device
    draw = torch.rand(10, n, generator=generator).to(device)
    side = (0.2 + 0.8 * draw[0]).sqrt()
    flip = torch.where(draw[1] < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0], theta[:, 1, 1] = side * flip, side
    theta[:, 0, 2], theta[:, 1, 2] = (1 - side) * (2 * draw[2] - 1), (1 - side) * (2 * draw[3] - 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    x = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    strength = torch.where(draw[4] < 0.8, 0.4, 0.0)
    brightness, contrast, saturation = (1 + strength * (2 * draw[k] - 1) for k in (5, 6, 7))
    x = x * brightness.view(-1, 1, 1, 1)
    x = _mix(x, x.mean((1, 2, 3), keepdim=True), contrast)
    grey = x.mean(1, keepdim=True)
    x = _mix(x, grey, torch.where(draw[8] < 0.2, 0.0, saturation))
    return x.round().clamp(0, 255).to(torch.uint8)


def _mix(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return other + (x - other) * share.view(-1, 1, 1, 1)


def pretrain(
    model: SimSiam, data: ImageSet, base: Base, config: FitConfig, checkpoint: Checkpoint, seed: int,
    device: torch.device, *, small_size: int = 0, small_steps: int = 0,
) -> None:  # fmt: skip
    """Train in place, going on from the checkpoint of a run that was stopped.

    Args:
        model: On `device`.
        data: Its labels are not looked at.
        base: How images are normalised.
        config: Batch, iterations, rate, decay.
        checkpoint: Where the state is kept.
        seed: Of the batches and views.
        device: Where.
        small_size: Side in pixels of the views of the first steps, which cost less (progressive resizing).
        small_steps: How many those are.
    """
    optimizer = make_optimizer(model, config)
    start = checkpoint.load(model, optimizer)
    model.train()
    for step, index in enumerate(batches(len(data), config.batch_size, config.iterations, rng(seed, "simsiam"))):
        if step < start:
            continue
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        images = data.images[torch.from_numpy(index)].to(device)
        generator = torch_rng(seed, f"views/{step}")  # of the step, so that a resumed run sees the same views
        views = (normalise(view(images, generator), base.mean, base.std) for _ in range(2))
        if step < small_steps:
            views = (scaled_down(x, (small_size, small_size)) for x in views)
        with autocast(device, bf16=True):
            first, second = (model(x) for x in views)
        loss = loss_of(_float(first), _float(second))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == config.iterations:
            checkpoint.save(model, optimizer, step + 1)
    model.eval()


def _float(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return pair[0].float(), pair[1].float()
