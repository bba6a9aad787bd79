"""What faster forms of a network's layers gain in a training step.

    python -m benchmarks training-speed [--rounds 15]
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python -m benchmarks training-speed

A step is forward, backward and optimiser, on one thread. Forms take turns and are compared by processor time, so that
other work on the machine hardly counts. Without `quick` a network has torch's own layers and an optimiser that is not
fused; with `views` its frozen layers have seen the images before, as in `prune --data`.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import RESNET_ZOO
from benchmarks.command import Script
from benchmarks.lite0 import body
from mvp_edge.config import FitConfig
from mvp_edge.models.norms import fix_norms
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.training.early_layers import freeze_early, frozen_layers, passed, skipped
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.training.quick_layers import quick_layers
from mvp_edge.zoo.store import open_zoo

ISA = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


@dataclass(frozen=True)
class Contestant:
    """A network that is trained: `make` returns it; `pixels` are its input's, `batch` its images a step."""

    name: str
    make: Callable[[], nn.Module]
    pixels: int
    batch: int
    optimizer: Any


def narrow() -> nn.Module:
    """Return the CIFAR-100 generalist that keeps a tenth: 8, 16, 24 and 48 channels."""
    zoo = open_zoo(RESNET_ZOO)
    rival = next(i for i in zoo.infos() if i.kind == "generalist" and i.recipe.get("keep") == 0.1)
    return zoo.load(rival).network(PrunableModel.of(zoo.base, zoo.load_base())).train()


def photographed(*, frozen: bool) -> nn.Module:
    """Return a body of the photograph zoo as `prune --data` trains it, or with all its layers."""
    _, network = body("lite0-128")
    network.train()
    fix_norms(network)
    if frozen:
        freeze_early(network)
    return network


CONTESTANTS = (
    Contestant("CIFAR-100 network of 8, 16, 24 and 48 channels", narrow, 32, 64, "sgd"),
    Contestant("Lite0, all layers", lambda: photographed(frozen=False), 128, 32, "adamw"),
    Contestant("Lite0, later half", lambda: photographed(frozen=True), 128, 32, "adamw"),
)


@dataclass(frozen=True)
class Form:
    """How a step is computed."""

    bf16: bool = False
    quick: bool = False
    views: bool = False

    def __str__(self) -> str:
        extras = [name for name in ("quick", "views") if getattr(self, name)]
        return ", ".join(["bfloat16" if self.bf16 else "float32", *extras])


FORMS = (Form(), Form(quick=True), Form(quick=True, views=True), Form(bf16=True), Form(bf16=True, quick=True))


def main(argv: Sequence[str]) -> None:
    """Time the forms of each network in turns."""
    script = Script("training-speed", __doc__)
    script.add("--rounds", type=int, default=15)
    args = script.parse(argv)
    torch.set_num_threads(1)
    for one in CONTESTANTS:
        forms = [f for f in FORMS if not f.views or one.name.endswith("later half")]
        steps = {str(f): step_of(one, f) for f in forms}
        seconds: dict[str, list[float]] = {form: [] for form in steps}
        for turn in range(args.rounds + 1):
            for form, step in steps.items():
                start = time.process_time()
                step()
                if turn:  # the first prepares
                    seconds[form].append(time.process_time() - start)
        plain = seconds["float32"]
        script.record(
            {
                "network": one.name, "pixels": one.pixels, "batch": one.batch, "rounds": args.rounds,
                "instructions": os.environ.get(ISA[0], "all"),
            },
            {
                "images_per_s": {f: round(one.batch / statistics.median(s), 1) for f, s in seconds.items()},
                "times_as_fast": {
                    f: [round(q, 2) for q in quartiles([a / b for a, b in zip(plain, s, strict=True)])]
                    for f, s in seconds.items()
                },
            },
        )  # fmt: skip


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper one."""
    return statistics.quantiles(values, n=4)


def step_of(one: Contestant, form: Form) -> Callable[[], None]:
    """Return what takes one step with a network of its own."""
    network = one.make().to(memory_format=torch.channels_last)
    config = FitConfig(iterations=1, batch_size=one.batch, lr=1e-6, optimizer=one.optimizer)
    optimizer = make_optimizer(network, config)
    for group in optimizer.param_groups:
        group["fused"] = form.quick
    images = torch.randn(one.batch, 3, one.pixels, one.pixels).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(one.batch) % 5
    layers = frozen_layers(network, images) if form.views else ()
    seen = passed(layers, images)

    def step() -> None:
        with quick_layers(network) if form.quick else nullcontext(), skipped(layers):
            with torch.autocast("cpu", torch.bfloat16, enabled=form.bf16):
                logits = network(seen)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()

    return step
