"""A zoo of ready-made bodies of a small network that knows coloured squares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mvp_edge.data import open_source
from mvp_edge.models.architectures import head_of, new_model
from mvp_edge.models.heads import features_of
from mvp_edge.models.norms import fold
from mvp_edge.models.tensors import deserialise, load_weights
from mvp_edge.prune.base_zoo import add_bodies, exported, write_body
from mvp_edge.training.loop import BatchSource, FitConfig, fit
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.zoo.bodies import BASE, Body
from mvp_edge.zoo.store import create_zoo
from tests.bases import small_base

CPU = torch.device("cpu")


def make_body_zoo(path: Path, images: Path, known: tuple[str, ...], pixels: tuple[int, ...] = (48, 32)) -> Path:
    """Write a zoo of one network at some pixels, most first, that has seen images of the known classes for a moment."""
    base = small_base("test_efficientnet", (pixels[0], pixels[0]), licence="Apache-2.0")
    data = open_source(str(images)).load(known, "train", base.input_size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = new_model(base.arch, len(known))
    config = FitConfig(iterations=40, batch_size=16, lr=0.05, warmup=0.1)
    fit(network, BatchSource(data, base, config, CPU, 0), config, optimizer=make_optimizer(network, config))
    create_zoo(path, replace(base, classes=known), fold(network), "float16")
    load_weights(network, deserialise((path / "base.safetensors.gz").read_bytes())[0])
    network, head, bodies = network.eval(), head_of(network), []
    for side in pixels:
        at = replace(base, input_size=(side, side), classes=known)
        body = Body(f"tiny-{side}", side, BASE, 0, 0, curve=((2, 60 + side / 2), (6, 50 + side / 2)))
        seen = open_source(str(images)).load(known, "test", at.input_size)
        coordinates = features_of(network, seen.images, at, CPU) @ head.weight.T.detach()
        stored = {
            "basis": head.weight.detach(), "rows": torch.eye(len(known)), "bias": head.bias.detach(),
            "coordinates": coordinates, "exact": coordinates + head.bias.detach(),
            "labels": seen.labels.to(torch.int16), "exact_classes": torch.arange(len(known)).to(torch.int16),
        }  # fmt: skip
        bodies.append(write_body(path, body, network, exported(network, at), stored, "float16"))
    add_bodies(path, bodies, (), "coloured squares")
    return path
