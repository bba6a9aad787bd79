"""The meta-training of IHT-Reptile: once for all target tasks, on tasks of the zoo, for Table 1's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from benchmarks.baselines.masking import dense_copy
from benchmarks.baselines.reptile import MetaConfig, Reptile, drawing, meta_train, save_meta
from benchmarks.setting import Setting
from benchmarks.suite.experiment import Context, Experiment, Row, made_from
from benchmarks.suite.running import IN_PARTS, try_once, why_not
from benchmarks.suite.store import Line

NAME = "meta"
META = MetaConfig()
TRAINING_TASKS = 20
HYPER = {"meta": asdict(META), "training_tasks": TRAINING_TASKS}


def rows(context: Context) -> list[Row]:
    """Return the one thing that is made."""
    title = "IHT-Reptile's meta-training, once for all tasks"
    return [
        Row("reptile-meta", "reptile", title, None, iterations=context.steps(META.iterations), hyper=HYPER,
            form="masked", missing=why_not(context, "cifar100"), seconds=2200 * context.scale)
    ]  # fmt: skip


def run(context: Context, rows: Sequence[Row]) -> None:
    """Meta-train unless the network is there; one that a run left without a record has a cost that nobody knows."""
    absent = not file_of(context).exists()
    make = partial(_train, context) if absent else lambda: IN_PARTS
    try_once(NAME, rows[0], context, context.zoo, make, anew=absent)


def missing(context: Context) -> str:
    """Say what the rows that start from it lack; empty if nothing."""
    return "" if file_of(context).exists() else f"nothing is meta-trained yet; run: python -m benchmarks {NAME}"


def reptile(context: Context) -> Reptile:
    """Return what fine-tunes the meta-trained network."""
    return Reptile(lambda setting: file_of(context))


def file_of(context: Context) -> Path:
    """Return where the meta-trained network is kept."""
    settings = asdict(_config(context)) | {"training_tasks": context.steps(TRAINING_TASKS), "seed": context.seed}
    return context.work / f"reptile-{made_from(context.zoo, **settings)}.safetensors"


def _config(context: Context) -> MetaConfig:
    return replace(META, iterations=context.steps(META.iterations), interval=context.steps(META.interval))


def _train(context: Context) -> Line:
    config = _config(context)
    source, settings = context.source("cifar100"), []
    for info in [i for i in context.zoo.infos() if i.kind == "specialist"][: context.steps(TRAINING_TASKS)]:
        train = source.load(info.task.names, "train", context.zoo.base.input_size)
        settings.append(Setting(context.zoo, context.prunable, info.task, train, train, context.device, context.seed))
    model = dense_copy(settings[0])
    masks = meta_train(model, drawing(settings, config, context.seed), config, context.device, context.seed)
    save_meta(file_of(context), model, masks, config)
    return {"notes": {"density": masks.density, "training_tasks": len(settings)}}


EXPERIMENT = Experiment(NAME, "IHT-Reptile's network, for Table 1", "Table 1", 12, rows, run)
