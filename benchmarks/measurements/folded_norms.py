"""Can weights with folded batch norms be trained, as they are and after the norms were measured anew?

    python -m benchmarks folded-norms --data DIR --base timm:mobilenetv2_100 --weights FILE [--classes 5] [--steps 40]

The head is fitted in closed form, then the whole network is fine-tuned on three quarters of the training images of the
first classes of the data; what is scored is the other quarter. The run without new norms goes past the check that
refuses it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.command import Script
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import set_head
from mvp_edge.models.bases import Base, load_base
from mvp_edge.models.heads import ridge_head
from mvp_edge.models.norms import IMAGES, is_folded, unfold
from mvp_edge.training.loop import BatchSource, accuracy, fit, make_optimizer, predict

CPU = torch.device("cpu")


def trained(model: nn.Module, base: Base, train: ImageSet, config: FitConfig) -> nn.Module:
    """Fine-tune a copy, folded norms or not."""
    model = copy.deepcopy(model)
    with patch("mvp_edge.training.loop.require_trainable"):
        fit(model, BatchSource(train, base, config, CPU, 0), config, optimizer=make_optimizer(model, config))
    return model


def main(argv: Sequence[str]) -> None:
    """Train both ways and append a record."""
    script = Script("folded-norms", __doc__, "data")
    script.add("--base", default="timm:mobilenetv2_100")
    script.add("--weights", type=Path)
    script.add("--pixels", type=int, default=96)
    script.add("--classes", type=int, default=5)
    script.add("--steps", type=int, default=40)
    script.add("--lr", type=float, default=0.003)
    args = script.parse(argv)
    base, model = load_base(args.base, args.weights)
    if not is_folded(model):
        script.parser.error(f"the batch norms of {args.weights or args.base} are not folded")
    base = replace(base, input_size=(args.pixels, args.pixels))
    names = script.source.classes[: args.classes]
    images = script.source.load(names, "train", base.input_size)
    order = rng(0, "held-out").permutation(len(images))
    cut = len(images) // 4
    train, test = images.subset(order[cut:]), images.subset(order[:cut])
    set_head(model, ridge_head(model, train, base, CPU))
    model = on_device(model, CPU)
    config = FitConfig(iterations=args.steps, batch_size=32, lr=args.lr, warmup=0.1)
    logits = {"before": predict(model, test.images, base, CPU)}
    logits["folded"] = predict(trained(model, base, train, config), test.images, base, CPU)
    unfold(model, train.subset(rng(0, "norms").permutation(len(train))[:IMAGES]).images, base, CPU)
    same = predict(model, test.images, base, CPU)
    logits["unfolded"] = predict(trained(model, base, train, config), test.images, base, CPU)
    result = {name: round(accuracy(v, test).top1, 2) for name, v in logits.items()}
    result |= {"max_abs_diff": float((same - logits["before"]).abs().max()), "largest_logit": float(same.abs().max())}
    script.record(
        {
            "base": base.name, "base_sha256": base.sha256, "data": script.source.name, "classes": names,
            "pixels": args.pixels, "train": len(train), "held_out": len(test), "fit": asdict(config),
        },
        result,
    )  # fmt: skip
