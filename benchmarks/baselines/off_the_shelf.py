"""A small network off the shelf: timm's MobileNetV2 with ImageNet weights, fine-tuned on the task as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods import tuned
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.streams import rng
from mvp_edge.models.architectures import set_head
from mvp_edge.models.bases import Base, find_base, read_tensors
from mvp_edge.models.heads import ridge_head
from mvp_edge.models.norms import IMAGES, is_folded, unfold
from mvp_edge.models.tensors import load_weights

ARCH = "mobilenetv2_100"
KERAS_INPUT = "x/127.5-1"  # how a file's metadata names pixels in [-1, 1]


@dataclass(frozen=True)
class OffTheShelf:
    """MobileNetV2 with a head in closed form, fine-tuned on images that are enlarged to its own size.

    Attributes:
        weights: Returns a safetensors file with timm's tensor names; folded batch norms are measured anew.
        pixels: Side of the images that it sees.
    """

    weights: Callable[[], Path]
    pixels: int = 32

    def __call__(self, setting: Setting, config: FitConfig) -> nn.Module:
        """Return the network, trained on the setting's task; it takes images as the setting's base does."""
        theirs, network = load(self.weights(), self.pixels)
        ours, device = setting.prunable.base, setting.device
        model = on_device(Resized(network, theirs, ours), device)
        if is_folded(model):
            some = rng(setting.seed, "norms").permutation(len(setting.train))[:IMAGES]
            unfold(model, setting.train.subset(some).images, ours, device)
        set_head(model, ridge_head(model, setting.train, ours, device).to(device))
        return tuned(setting, model, config)


class Resized(nn.Module):
    """A network behind the enlargement and the change of normalisation that images of another base need."""

    network: Any
    ratio: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, theirs: Base, ours: Base) -> None:
        super().__init__()
        self.network, self.size = network, theirs.input_size
        self.register_buffer("ratio", (torch.tensor(ours.std) / torch.tensor(theirs.std)).view(3, 1, 1))
        shift = (torch.tensor(ours.mean) - torch.tensor(theirs.mean)) / torch.tensor(theirs.std)
        self.register_buffer("shift", shift.view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(N, C)` of images `(N, 3, H, W)` that are normalised for the other base."""
        return self.network(self.fitted(images))

    def fitted(self, images: Tensor) -> Tensor:
        """Return images as the network wants them, `(N, 3, *size)`."""
        if images.shape[2:] != self.size:
            images = F.interpolate(images, size=self.size, mode="bilinear")
        return images * self.ratio + self.shift

    def forward_features(self, images: Tensor) -> Tensor:
        """As timm's networks have it."""
        return self.network.forward_features(self.fitted(images))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """As timm's networks have it."""
        return self.network.forward_head(features, pre_logits=pre_logits)

    def get_classifier(self) -> nn.Module:
        """As timm's networks have it."""
        return self.network.get_classifier()


def load(weights: Path, pixels: int) -> tuple[Base, nn.Module]:
    """Return the network and what it takes, as the file's metadata tell: `input` and `pad_type`, timm's own if not.

    Raises:
        ConfigError: the file is missing, damaged, or of another network.
    """
    tensors, told = read_tensors(weights)
    base = replace(find_base(f"timm:{ARCH}"), input_size=(pixels, pixels))
    if told.get("input", "").startswith(KERAS_INPUT):
        base = replace(base, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    classes = len(tensors.get("classifier.bias", [0]))
    network = timm.create_model(ARCH, num_classes=classes, pad_type=told.get("pad_type", ""))
    expected = {k: v.shape for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    if wrong := [k for k, shape in expected.items() if k not in tensors or tensors[k].shape != shape]:
        raise ConfigError(f"{weights} is not {ARCH}: {len(wrong)} tensors are missing or differ, {wrong[0]} first")
    load_weights(network, {k: v for k, v in tensors.items() if k in expected})
    return base, network.eval()
