"""A zoo of ready-made bodies of a small network that knows coloured squares."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import onnx
import torch

from mvp_edge.data import open_source
from mvp_edge.export import export_onnx
from mvp_edge.export.body import without_weights
from mvp_edge.models.architectures import head_of, new_model
from mvp_edge.models.heads import features_of
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.models.norms import fold
from mvp_edge.models.tensors import compress, deserialise, load_weights, serialise
from mvp_edge.training.loop import BatchSource, FitConfig, fit, make_optimizer
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
    head, bodies = head_of(network), []
    for side in pixels:
        size = (side, side)
        body = Body(
            f"tiny-{side}", side, BASE, count_macs(network, size) - head.weight.numel(),
            count_params(network) - head.weight.numel() - head.bias.numel(),
            curve=((2, 60 + side / 2), (6, 50 + side / 2)),
        )  # fmt: skip
        graph = path / "bodies" / f"{body.id}.onnx.gz"
        features = path / "features" / f"{body.id}.safetensors.gz"
        for file in (graph, features):
            file.parent.mkdir(exist_ok=True)
        whole = path / "whole.onnx"
        export_onnx(
            network.eval(), whole, input_size=size, mean=base.mean, std=base.std, labels=known, metadata={}
        )  # fmt: skip
        state = {k: v.numpy() for k, v in network.state_dict().items()}
        small = without_weights(onnx.load(whole), state)
        graph.write_bytes(gzip.compress(small.SerializeToString(), 1, mtime=0))
        whole.unlink()
        seen = open_source(str(images)).load(known, "test", size)
        features_seen = features_of(network, seen.images, replace(base, input_size=size), CPU)
        coordinates = features_seen @ head.weight.T.detach()
        stored = {
            "basis": head.weight.detach(), "rows": torch.eye(len(known)), "bias": head.bias.detach(),
            "coordinates": coordinates, "exact": coordinates + head.bias.detach(),
            "labels": seen.labels.to(torch.int16), "exact_classes": torch.arange(len(known)).to(torch.int16),
        }  # fmt: skip
        features.write_bytes(compress(serialise(stored, "float16")))
        names = ["base.safetensors.gz", *(str(f.relative_to(path)) for f in (graph, features))]
        sums = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
        bodies.append(replace(body, sha256=sums).to_json())
    value = json.loads((path / "zoo.json").read_text())
    (path / "zoo.json").write_text(json.dumps(value | {"bodies": bodies, "near": [], "pictures": "coloured squares"}))
    return path
