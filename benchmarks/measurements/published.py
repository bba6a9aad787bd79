"""How do networks that were published for CIFAR-100 compare with the zoo's generalists, on all 100 classes?

    python -m benchmarks published [--zoo NAME] [--rounds 20]

The strongest published networks of this size are those of https://github.com/chenyaofo/pytorch-cifar-models, whose
README gives top-1 on CIFAR-100. Accuracy is as published; latency is measured here, at random weights, of torchvision's
networks with that repository's changes: the stem has stride 1, ShuffleNetV2 has no max pooling, and the second stage of
MobileNetV2 has stride 1. All take turns on one thread with the generalists, whose accuracy is that of their 100
outputs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import mobilenet_v2, shufflenetv2

from benchmarks.command import Script
from benchmarks.measurements.edge_latency import export
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.timing.latency import Contender, time_in_turns

CLASSES = 100
STAGES = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
"""MobileNetV2's expansion, channels, blocks and stride of each stage."""


def shufflenet(width: str) -> nn.Module:
    """Return ShuffleNetV2 for images of 32 px, at random weights."""
    model: Any = getattr(shufflenetv2, f"shufflenet_v2_x{width}")(num_classes=CLASSES)
    model.conv1[0].stride, model.maxpool = (1, 1), nn.Identity()
    return model


def mobilenet(width: float) -> nn.Module:
    """Return MobileNetV2 for images of 32 px, at random weights."""
    model: Any = mobilenet_v2(num_classes=CLASSES, width_mult=width, inverted_residual_setting=STAGES)
    model.features[0][0].stride = (1, 1)
    return model


PUBLISHED: dict[str, tuple[Callable[[], nn.Module], float, float]] = {
    "ShuffleNetV2 x0.5": (partial(shufflenet, "0_5"), 67.82, 10.99),
    "ShuffleNetV2 x1.0": (partial(shufflenet, "1_0"), 72.39, 45.09),
    "MobileNetV2 x0.5": (partial(mobilenet, 0.5), 70.88, 28.08),
    "MobileNetV2 x1.0": (partial(mobilenet, 1.0), 74.20, 88.09),
}
"""Network, and top-1 in percent and million multiply-adds as published."""


def main(argv: Sequence[str]) -> None:
    """Export, time in turns, and append a record."""
    script = Script("published", __doc__, "zoo")
    script.add("--rounds", type=int, default=20)
    args = script.parse(argv)
    zoo, base = script.zoo, script.zoo.base
    infos = sorted((i for i in zoo.infos() if i.kind == "generalist"), key=lambda i: i.recipe["keep"])
    models = {f"generalist, keep {i.recipe['keep']:g}": (zoo.load(i).network(script.prunable), i.top1) for i in infos}
    models |= {f"base, {base.name}": (script.prunable.model, base.top1)}
    ours = set(models)
    models |= {title: (make(), top1) for title, (make, top1, _) in PUBLISHED.items()}
    with tempfile.TemporaryDirectory() as scratch:
        files = [
            export(base, model.eval(), Path(scratch) / f"{number}.onnx", outputs=CLASSES)
            for number, (model, _) in enumerate(models.values())
        ]
        timings = time_in_turns([Contender(f) for f in files], args.rounds, budget_s=float("inf"))
        networks = []
        for (title, (model, top1)), file, timing in zip(models.items(), files, timings, strict=True):
            ratio, latency = timing.ratio_to(timings[0]), timing.latency()
            networks.append({
                "title": title, "ours": title in ours, "top1": top1, "macs": count_macs(model, base.input_size),
                "params": count_params(model), "ms": round(latency.median_ms, 4), "waited": round(latency.waited, 3),
                "ratio": ratio and round(ratio.median, 3), "kib": round(file.stat().st_size / 1024, 1),
            })  # fmt: skip
    script.record({"zoo": zoo.name, "base_sha256": base.sha256, "rounds": args.rounds}, {"networks": networks})
