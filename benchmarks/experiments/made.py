"""What other experiments need and is made once: zoos, a base without labels, a meta-trained network, a grown zoo."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import VIT_ZOO
from benchmarks.baselines.masked import dense_copy
from benchmarks.baselines.reptile import MetaConfig, drawing, meta_train, save_meta
from benchmarks.baselines.simsiam import SimSiam, pretrain
from benchmarks.methods import SPECIALISTS, top1, voted
from benchmarks.records import Line
from benchmarks.rows import mvp_row
from benchmarks.setting import Setting, load
from benchmarks.suite import ZOOS, Context, Experiment, Row, complete, fork, grown
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import BuildConfig, FitConfig, Importance, PruneSchedule
from mvp_edge.core.device import on_device
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.streams import torch_rng
from mvp_edge.models.architectures import new_model, set_head
from mvp_edge.models.bases import load_base, save_base
from mvp_edge.models.heads import ridge_head
from mvp_edge.models.plan import KeepPlan
from mvp_edge.pruners import target_counts
from mvp_edge.training.checkpoint import Checkpoint
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.meta_vote import vote
from mvp_edge.voting.neighbours import select_voters
from mvp_edge.zoo.member import MemberInfo, member_id
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo


def given(folder: str, own: str | None, context: Context) -> Zoo:
    """Open the zoo that `--folder` names, or one of this repository.

    Raises:
        ZooError: it cannot be read.
        ConfigError: none is given, and the repository has none.
    """
    if folder not in context.folders and own is None:
        raise ConfigError(f"the images and a zoo of this base are not at hand; give --folder {folder}=DIR")
    return open_zoo(str(context.folders.get(folder, own)))


# Zoos of other members, made as the specialists of the default zoo are, from the smallest larger generalist.

FIT = FitConfig(iterations=200, batch_size=64, lr=0.03, distill=0.9)


@dataclass(frozen=True)
class ZooRecipe:
    """What a zoo's specialists are made like."""

    members: int
    ways: int = 5
    keep: float = 0.1
    importance: Importance = "activation"


RECIPES = {
    "taylor": ZooRecipe(20, importance="taylor"),
    "3-way": ZooRecipe(30, ways=3, keep=0.05),
    "10-way": ZooRecipe(30, ways=10, keep=0.15),
}


def zoo_path(context: Context, name: str) -> Path:
    """Return where a zoo is kept; one of other settings, or of other generalists, lies elsewhere."""
    generalists = [i.id for i in context.zoo.infos() if i.kind == "generalist"]
    return context.made_from(name, recipe=asdict(RECIPES[name]), fit=asdict(FIT), generalists=generalists)


def zoo_rows(context: Context) -> list[Row]:
    """Return a row for each zoo; its accuracy is that of its members on their own tasks' test images."""
    return [_zoo_row(context, name, recipe) for name, recipe in RECIPES.items()]


def _zoo_row(context: Context, name: str, recipe: ZooRecipe) -> Row:
    fit = replace(FIT, iterations=context.steps(FIT.iterations))
    config = BuildConfig(
        members=context.steps(recipe.members), ways=recipe.ways, fit=fit,
        schedule=PruneSchedule(keep=recipe.keep, every=5, importance=recipe.importance),
    )  # fmt: skip
    path = zoo_path(context, name)

    def make(s: Setting) -> Line:
        zoo = fork(context.zoo, path, lambda info: info.kind == "generalist")
        return grown(context, zoo, config, Teacher(context.prunable, context.device))

    hyper = {**asdict(recipe), "members": config.members, **asdict(FIT), "every": 5, "parent": "generalist"}
    method = "ifp-taylor" if recipe.importance == "taylor" else "ifp"
    title = f"{recipe.members} members of {recipe.ways} classes, keep {recipe.keep:g}, {recipe.importance}"
    return Row(name, method, title, make, iterations=fit.iterations, keep=recipe.keep, batch=fit.batch_size,
               hyper=hyper, tasks="once", product=path)  # fmt: skip


# A base without labels. The published recipe trains 100 to 800 epochs; here it is as many as a CPU core does in little
# more than an hour, most of them of views scaled down.

SMALL_EPOCHS, EPOCHS = 2.0, 2.25  # epochs in all; the first are of small views, at a third of the price
SMALL_SIZE = 16
LINEAR_STRIDE = 5  # one training image in so many is enough for the classifier that scores the features
PRETRAINING = FitConfig(batch_size=64, lr=0.03, weight_decay=5e-4, warmup=0.05)
SSL_MEMBERS = 20
SSL_FIT = FitConfig(iterations=300, lr=0.02)


def ssl_rows(context: Context) -> list[Row]:
    """Return the base without labels and the members that are cut from it."""
    pretraining = {
        "epochs": EPOCHS * context.scale, "small_epochs": SMALL_EPOCHS * context.scale, "small_size": SMALL_SIZE,
        **asdict(PRETRAINING), "views": "crop, flip, colours, grey",
        "linear": f"every {LINEAR_STRIDE}th training image",
    }  # fmt: skip
    members = {"members": context.steps(SSL_MEMBERS), **asdict(SSL_FIT), "parent": "base"}
    return [
        Row("simsiam", "simsiam", "SimSiam pretraining, linear classifier on its features",
            lambda s: _pretrained(context), keep=1.0, hyper=pretraining, form="whole", tasks="once",
            product=ssl_path(context)),
        Row("members", "ifp-ssl", "IFP members cut from it", lambda s: _ssl_members(context),
            iterations=context.steps(SSL_FIT.iterations), hyper=members, tasks="once", product=ssl_zoo_path(context)),
    ]  # fmt: skip


def ssl_path(context: Context) -> Path:
    """Return where the base without labels is kept."""
    settings = {"epochs": (SMALL_EPOCHS, EPOCHS), "size": SMALL_SIZE, **asdict(PRETRAINING)}
    return context.made_from("simsiam", **settings).with_suffix(".safetensors")


def ssl_zoo_path(context: Context) -> Path:
    """Return where the zoo of that base is kept."""
    return context.made_from("simsiam-zoo", base=ssl_path(context).name, members=SSL_MEMBERS, **asdict(SSL_FIT))


def _pretrained(context: Context) -> Line:
    """Pretrain unless that was done; return what a ridge classifier on the features scores on all classes."""
    path, base, device = ssl_path(context), context.zoo.base, context.device
    train, test = (context.source("cifar100").load(None, split, base.input_size) for split in ("train", "test"))
    if not path.exists():
        small, steps = (
            max(2, math.ceil(epochs * context.scale * len(train) / PRETRAINING.batch_size))
            for epochs in (SMALL_EPOCHS, EPOCHS)
        )
        config = replace(PRETRAINING, iterations=steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_rng(context.seed, "simsiam/init").initial_seed())
            model = on_device(SimSiam(new_model(base.arch, len(train.classes))), device)
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = Checkpoint(path.with_suffix(".checkpoint"), asdict(config) | {"seed": context.seed})
        pretrain(model, train, base, config, checkpoint, context.seed, device, small_size=SMALL_SIZE, small_steps=small)
        recipe = f"SimSiam without labels, {steps} steps of {config.batch_size} images, {small} at {SMALL_SIZE} px"
        named = replace(base, name=f"{base.name}-simsiam", classes=(), sha256="", top1=None, recipe=recipe)
        save_base(model.encoder, named, path)
    base, model = load_base(str(path))
    model = on_device(model, device)
    some = train.subset(range(0, len(train), LINEAR_STRIDE))
    set_head(model, ridge_head(model, some, base, device).to(device))
    return {"top1": round(accuracy(predict(model, test.images, base, device), test).top1, 2)}


def _ssl_members(context: Context) -> Line:
    fit = replace(SSL_FIT, iterations=context.steps(SSL_FIT.iterations))
    config = BuildConfig(members=context.steps(SSL_MEMBERS), schedule=PruneSchedule(), fit=fit, parent="base")
    return grown(context, create_zoo(ssl_zoo_path(context), *load_base(str(ssl_path(context)))), config)


# The meta-training of IHT-Reptile, on tasks of the zoo.

META = MetaConfig()
TRAINING_TASKS = 20
META_HYPER = {"meta": asdict(META), "training_tasks": TRAINING_TASKS}


def meta_path(context: Context) -> Path:
    """Return where the meta-trained network is kept."""
    return context.made_from("reptile", meta=asdict(META), tasks=TRAINING_TASKS).with_suffix(".safetensors")


def meta_file(context: Context) -> Path:
    """Return the meta-trained network.

    Raises:
        ConfigError: it is not there.
    """
    if not (path := meta_path(context)).exists():
        raise ConfigError("nothing is meta-trained yet; run: python -m benchmarks meta")
    return path


def meta_rows(context: Context) -> list[Row]:
    """Return the one thing that is made."""

    def make(s: Setting) -> Line:
        config = replace(META, iterations=context.steps(META.iterations), interval=context.steps(META.interval))
        source, settings = context.source("cifar100"), []
        for info in [i for i in s.zoo.infos() if i.kind == "specialist"][: context.steps(TRAINING_TASKS)]:
            train = source.load(info.task.names, "train", s.zoo.base.input_size)
            settings.append(replace(s, task=info.task, train=train, test=train))
        model = dense_copy(settings[0])
        masks = meta_train(model, drawing(settings, config, s.seed), config, s.device, s.seed)
        save_meta(meta_path(context), model, masks, config)
        return {"notes": {"density": masks.density, "training_tasks": len(settings)}}

    title = "IHT-Reptile's meta-training, once for all tasks"
    return [Row("reptile-meta", "reptile", title, make, iterations=context.steps(META.iterations), hyper=META_HYPER,
                form="masked", tasks="once", product=meta_path(context))]  # fmt: skip


# Section 7.4. Half of the zoo's specialists are the start. Tasks of the other half are then added, once as the members
# that they are, and once as networks that MVP makes in 100 iterations from the first half.

ADDED = 25  # tasks at most by which the zoo grows
GROWTH = {
    "start": "the first half of the zoo",
    "grown-ifp": "that half and members pruned for their tasks",
    "grown-mvp": "that half and what MVP made for these tasks",
}


def halves(context: Context) -> tuple[list[MemberInfo], list[MemberInfo]]:
    """Return the specialists that are the start, and those whose tasks are added."""
    found = [i for i in context.zoo.infos() if i.kind == "specialist"]
    half = len(found) // 2
    return found[:half], found[half:][: context.steps(ADDED)]


def growth_rows(context: Context) -> list[Row]:
    """Return the growth of the zoo and MVP by each of the three zoos."""
    added = Row("members", "mvp", "members that MVP makes from the first half", partial(_grow, context),
                hyper={"added": ADDED}, votes=True, zoo="growth-start", iterations=context.steps(100), tasks="once",
                product=context.work / "growth-grown-mvp")  # fmt: skip
    votes = [
        mvp_row(context, 100, name=name, title=f"MVP by {title}", hyper={"zoo": name}, zoo=f"growth-{name}", count=10)
        for name, title in GROWTH.items()
    ]
    return [added, *votes]


def growth_zoo(name: str, context: Context) -> Zoo:
    """Open one of the three zoos; the one that MVP grows is complete only after its row was run.

    Raises:
        ConfigError: it is not complete.
    """
    first, second = halves(context)
    path = context.work / f"growth-{name}"
    if name == "grown-mvp":
        return complete(context, path, len(first) + len(second), "growth")
    return fork(context.zoo, path, lambda i: i in first or (name == "grown-ifp" and i in second))


def _grow(context: Context, start: Setting) -> Line:
    """Add what MVP makes from the members of the start for every task, and return its accuracy on them."""
    first, second = halves(context)
    zoo = fork(context.zoo, context.work / "growth-grown-mvp", lambda i: i in first)
    fit = FitConfig(iterations=context.steps(100))
    recipe = {"method": "mvp", "vote": SPECIALISTS.vote, "neighbours": SPECIALISTS.neighbours,
              "iterations": fit.iterations}  # fmt: skip
    source, scores, prunable = context.source("cifar100"), [], start.prunable
    for info in second:
        name = member_id(info.task, recipe)
        if not zoo.has(name):
            train, test = load(source, info.task, start.zoo.base.input_size, "test")
            s = replace(start, task=info.task, train=train, test=test)
            model = voted(SPECIALISTS, fit)(s)
            made = replace(info, id=name, plan=_plan(s), recipe=recipe, top1=top1(s, model), outputs_sha256="")
            zoo.add(made, {k: v.cpu() for k, v in prunable.state_of(model).items()})
        scores.append(zoo.info(name).top1 or 0.0)
    return {"top1": round(sum(scores) / len(scores), 2), "notes": {"added": len(scores)}}


def _plan(s: Setting) -> KeepPlan:
    counts = target_counts(s.prunable.table, SPECIALISTS.keep, SPECIALISTS.channel_multiple)
    return vote(
        s.zoo, s.prunable, select_voters(s.ranked, s.prunable, s.task, SPECIALISTS), SPECIALISTS, counts, s.seed
    )[0]


ZOOS.update(
    {"vit": partial(given, "vit-zoo", VIT_ZOO)}
    | {name: partial(given, name, None) for name in ("resnet50-zoo", "deit-zoo")}
    | {name: lambda c, n=name: complete(c, zoo_path(c, n), c.steps(RECIPES[n].members), "zoos") for name in RECIPES}
    | {"ssl": lambda c: complete(c, ssl_zoo_path(c), c.steps(SSL_MEMBERS), "ssl")}
    | {f"growth-{name}": partial(growth_zoo, name) for name in GROWTH}
)

EXPERIMENTS = (
    Experiment("meta", "IHT-Reptile's network, for Table 1", "Table 1", meta_rows),
    Experiment("zoos", "zoos that other experiments need", "Section 3.1", zoo_rows),
    Experiment("ssl", "a base without labels and its zoo, for Table 1's -SSL rows", "Table 1", ssl_rows),
    Experiment("growth", "may a zoo grow with MVP's own results?", "Section 7.4", growth_rows),
)
