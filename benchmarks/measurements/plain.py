"""What is pruning in a chain for? A network of a generalist's size, distilled plainly from the base.

    nice -n 15 python -m benchmarks plain --data DIR [--keep 0.1] [--starts random,magnitude] [--iterations N]

The control of a generalist: as many channels, the same images, teacher and settings, as many steps as it and all that
it was pruned from got, but no pruning on the way. It starts from random weights, or from the base's own weights of the
units with the largest magnitude. Test images only report; nothing is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Literal, get_args

import torch
from torch import nn

from benchmarks.command import Script
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.pruners import base_importance
from mvp_edge.pruners.units import top_plan
from mvp_edge.training.loop import BatchSource, accuracy, fit, predict
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo

Start = Literal["random", "magnitude"]


def main(argv: Sequence[str]) -> None:
    """Train the networks that have no record yet."""
    script = Script("plain", __doc__, "data", "zoo", "device", "seed")
    script.add("--keep", type=float, default=0.1, help="which generalist is the rival")
    script.add("--starts", default=",".join(get_args(Start)))
    script.add("--iterations", type=int, help="instead of as many as the whole chain got")
    args = script.parse(argv)
    rival = next(i for i in script.zoo.infos() if i.kind == "generalist" and i.recipe.get("keep") == args.keep)
    chain = ancestry(script.zoo, rival)
    settings = replace(
        FitConfig(**rival.recipe["fit"]),
        iterations=args.iterations or sum(int(i.recipe["fit"]["iterations"]) for i in chain),
    )
    names, size = rival.task.names, script.zoo.base.input_size
    train, test = (script.source.load(names, split, size) for split in ("train", "test"))
    teacher = Teacher(script.prunable, script.device).logits(train)
    for start in get_args(Start):
        config = {
            "start": start, "rival": rival.id, "chain": [i.id for i in chain], "fit": asdict(settings),
            "seed": args.seed, "base_sha256": script.zoo.base.sha256,
        }  # fmt: skip
        if start not in args.starts.split(",") or config in script.done():
            continue
        model = on_device(begin(script.prunable, rival.plan, start, args.seed), script.device)
        source = BatchSource(train, script.zoo.base, settings, script.device, args.seed, teacher)
        fit(model, source, settings, optimizer=make_optimizer(model, settings))
        top1 = accuracy(predict(model, test.images, script.zoo.base, script.device), test).top1
        script.record(config, {"top1": round(top1, 2), "rival_top1": rival.top1, "n_test": len(test)})


def ancestry(zoo: Zoo, info: MemberInfo) -> list[MemberInfo]:
    """Return a member and all that it was pruned from, itself first."""
    parent = info.recipe.get("parent")
    return [info] if parent is None else [info, *ancestry(zoo, zoo.info(parent))]


def begin(prunable: PrunableModel, plan: KeepPlan, start: Start, seed: int) -> nn.Module:
    """Return a network with as many units as a plan, and a head for all classes, before its first training step."""
    chosen = top_plan(prunable.table, base_importance(prunable.model, prunable.table), plan.counts)
    model = sliced_copy(prunable.model, prunable.table, chosen)
    if start == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in model.modules():
                reset = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()
    return model
