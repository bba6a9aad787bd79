"""A base model trained without labels and a zoo cut from it: what the `-SSL` rows of Table 1 start from.

The published recipe trains 100 to 800 epochs. Here it is as many as a CPU core does in little more than an hour, most
of them of views scaled down; the records say how many, and what a linear classifier on its features scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.baselines.simsiam import Pretraining, SimSiam
from benchmarks.suite.experiment import Context, Experiment, Row, made_from
from benchmarks.suite.running import IN_PARTS, try_once, why_not
from benchmarks.suite.store import Line
from benchmarks.suite.zoos import grow
from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import torch_rng
from mvp_edge.models.architectures import new_model, set_head
from mvp_edge.models.bases import load_base, save_base
from mvp_edge.models.heads import ridge_head
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.training.checkpoint import Checkpoint
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo

NAME = "ssl"
SMALL_EPOCHS, EPOCHS = 2.0, 2.25  # epochs in all; the first are of small views, at a third of the price
SMALL_SIZE = 16
LINEAR_STRIDE = 5  # one training image in so many is enough for the classifier that scores the features
PRETRAINING = FitConfig(batch_size=64, lr=0.03, weight_decay=5e-4, warmup=0.05)
MEMBERS, MEMBER_ITERATIONS = 20, 300
MEMBER_FIT = FitConfig(iterations=MEMBER_ITERATIONS, lr=0.02)


def rows(context: Context) -> list[Row]:
    """Return the two things that are made once."""
    missing = why_not(context, "cifar100")
    pretraining = _pretraining(context) | {"linear": f"every {LINEAR_STRIDE}th training image"}
    return [
        Row("simsiam", "simsiam", "SimSiam pretraining, linear classifier on its features", None, keep=1.0,
            hyper=pretraining, form="whole", missing=missing),
        Row("members", "ifp-ssl", "IFP members cut from it", None, iterations=context.steps(MEMBER_ITERATIONS),
            hyper=_members(context), missing=missing),
    ]  # fmt: skip


def _pretraining(context: Context) -> dict[str, Any]:
    return {
        "epochs": EPOCHS * context.scale, "small_epochs": SMALL_EPOCHS * context.scale, "small_size": SMALL_SIZE,
        **asdict(PRETRAINING), "views": "crop, flip, colours, grey",
    }  # fmt: skip


def _members(context: Context) -> dict[str, Any]:
    return {"members": context.steps(MEMBERS), **asdict(MEMBER_FIT), "parent": "base"}


def run(context: Context, rows: Sequence[Row]) -> None:
    """Pretrain and build, each going on where it was stopped."""
    pretraining, members = rows
    if pretraining.missing:
        return
    if not _base_file(context).exists() and not _pretrain(context):
        return
    try_once(NAME, pretraining, context, context.zoo, lambda: _linear(context))
    base, model = load_base(str(_base_file(context)))
    zoo = create_zoo(_zoo_path(context), base, model)
    wanted = context.steps(MEMBERS)
    fit = replace(MEMBER_FIT, iterations=context.steps(MEMBER_ITERATIONS))
    config = BuildConfig(members=wanted, schedule=PruneSchedule(), fit=fit, parent="base")
    have = grow(context, zoo, context.source("cifar100"), config, seconds_each=60 * context.scale)
    if have >= wanted:
        scores = [i.top1 for i in zoo.infos() if i.top1 is not None]
        try_once(NAME, members, context, zoo, lambda: {"top1": round(sum(scores) / len(scores), 2), **IN_PARTS})


def missing(context: Context) -> str:
    """Say what the `-SSL` rows lack; empty if nothing."""
    if not (_zoo_path(context) / "zoo.json").exists():
        return f"there is no self-supervised base with a zoo yet; run: python -m benchmarks {NAME}"
    wanted, have = context.steps(MEMBERS), len(open_zoo(str(_zoo_path(context))).ids())
    return "" if have >= wanted else f"the zoo has {have} of {wanted} members; run: python -m benchmarks {NAME}"


def opened(context: Context) -> tuple[Zoo, PrunableModel]:
    """Return the zoo of the self-supervised base, and that base."""
    zoo = open_zoo(str(_zoo_path(context)))
    return zoo, PrunableModel.of(zoo.base, zoo.load_base())


def _pretrain(context: Context) -> bool:
    """Train while there is time; write the base and return True once it is done."""
    base = context.zoo.base
    data = context.source("cifar100").load(None, "train", base.input_size)
    small, steps = (
        max(2, math.ceil(epochs * context.scale * len(data) / PRETRAINING.batch_size))
        for epochs in (SMALL_EPOCHS, EPOCHS)
    )
    config = replace(PRETRAINING, iterations=steps)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_rng(context.seed, "simsiam/init").initial_seed())
        model = SimSiam(new_model(base.arch, len(data.classes)))
    model = on_device(model, context.device)
    context.work.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(_base_file(context).with_suffix(".checkpoint"), asdict(config) | {"seed": context.seed})
    run = Pretraining(config, checkpoint, SMALL_SIZE, small)
    if run.run(model, data, base, context.device, context.seed, lambda: context.clock.allows(5)) < steps:
        return False
    recipe = f"SimSiam on the training images without labels, {steps} steps of {config.batch_size} images"
    recipe += f", the first {small} at {SMALL_SIZE} px"
    named = replace(base, name=f"{base.name}-simsiam", classes=(), sha256="", top1=None, recipe=recipe)
    save_base(model.encoder, named, _base_file(context))
    return True


def _linear(context: Context) -> Line:
    """Return what a ridge classifier on the features of every fifth training image scores on all classes."""
    base, model = load_base(str(_base_file(context)))
    source = context.source("cifar100")
    train, test = (source.load(None, split, base.input_size) for split in ("train", "test"))
    model = on_device(model, context.device)
    some = train.subset(range(0, len(train), LINEAR_STRIDE))
    set_head(model, ridge_head(model, some, base, context.device).to(context.device))
    return {"top1": round(accuracy(predict(model, test.images, base, context.device), test).top1, 2), **IN_PARTS}


def _base_file(context: Context) -> Path:
    return context.work / f"simsiam-{made_from(context.zoo, **_pretraining(context), seed=context.seed)}.safetensors"


def _zoo_path(context: Context) -> Path:
    settings = {"pretraining": _pretraining(context), "members": _members(context), "seed": context.seed}
    return context.work / f"simsiam-zoo-{made_from(context.zoo, **settings)}"


EXPERIMENT = Experiment(NAME, "a base without labels and its zoo, for Table 1's -SSL rows", "Table 1", 120, rows, run)
