"""How good is a model for a new task? MVP, its rivals and its baselines on the same target tasks, test split.

    python -m benchmarks.targets --data DIR [--zoo DIR] [--tasks 20] [--methods mvp-100,ifp-1000] [--lists superclasses]

Every finished (task, method) is one record; a run goes on where it was stopped. Choices were made with
`--split held-out`, which trains on 80 % of the training images and scores on the rest; the test split only reports.
Members have seen the training images. `--split unseen` takes a fifth of the test images to train on and scores on the
others: what few images are worth that are as new to the members as a user's own.
"""

from __future__ import annotations

import argparse
import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from benchmarks import records
from benchmarks.superclasses import SUPERCLASSES
from mvp_edge.cascade import answers, ask, largest_knowing
from mvp_edge.config import FitConfig, PruneSchedule, Similarity, VoteConfig
from mvp_edge.data import DataSource, ImageSet, open_source
from mvp_edge.heads import random_head, ridge_head, shared_rows
from mvp_edge.measure import count_macs
from mvp_edge.metavote import Neighbour, Trunk, assemble, electorate, rank, vote
from mvp_edge.models import set_head
from mvp_edge.plan import KeepPlan
from mvp_edge.pruners import random_plan, target_counts
from mvp_edge.recipes import recipe
from mvp_edge.runtime import SilentProgress, resolve_device, rng, torch_rng
from mvp_edge.similarity import wordnet
from mvp_edge.slicing import sliced_copy
from mvp_edge.tasks import Task, TaskClass
from mvp_edge.train import BatchSource, accuracy, fit, make_optimizer, predict, reestimate_norms
from mvp_edge.tuning import MANY_IMAGES, tune_warily
from mvp_edge.zoo import Zoo, open_zoo
from mvp_edge.zoo_build import find_parent, make_member, sample_tasks

log = logging.getLogger("benchmarks.targets")
TASK_SEED = 1000  # never used to build a zoo


@dataclass(frozen=True, eq=False)
class Setting:
    """One target task and what every method is given; what several methods need is computed once."""

    zoo: Zoo
    trunk: Trunk
    task: Task
    train: ImageSet
    test: ImageSet
    device: torch.device
    seed: int
    similarity: Similarity = "leep"

    @cached_property
    def ranked(self) -> list[Neighbour]:
        """All members, nearest first; the task's own member, if there is one, is left out."""
        own = frozenset([self.task.id])
        return rank(
            self.zoo, self.trunk, self.task, self.train, VoteConfig(voters="any", similarity=self.similarity),
            device=self.device, seed=self.seed, exclude=own,
        )  # fmt: skip

    @cached_property
    def teacher(self) -> torch.Tensor | None:
        """Logits on the training images that the tool learns from: the base model's where a smaller one is unsure."""
        return by_cascade(self)

    @cached_property
    def base_teacher(self) -> torch.Tensor | None:
        """Logits of the base model alone on the training images."""
        return by_base(self)


Method = Callable[[Setting], nn.Module]


def by_cascade(s: Setting) -> torch.Tensor | None:
    """Ask the base model only where the largest broad member is unsure."""
    told = ask(s.trunk, s.task, s.train, s.device, SilentProgress(), s.zoo)
    return None if told is None else told[0]


def by_base(s: Setting) -> torch.Tensor | None:
    """Ask the base model about all images."""
    told = ask(s.trunk, s.task, s.train, s.device, SilentProgress())
    return None if told is None else told[0]


def by_member(s: Setting) -> torch.Tensor | None:
    """Ask the largest broad member about all images."""
    if (member := largest_knowing(s.zoo, s.task)) is None:
        return None
    network = s.trunk.restore(s.zoo.load(member))
    return answers(network, member.task.names, s.trunk, s.task, s.train.images, s.device)


def tuned(setting: Setting, model: nn.Module, config: FitConfig) -> nn.Module:
    """Fine-tune a network on the target task, in place."""
    if config.iterations == 0:
        return model
    teacher = setting.teacher if config.distill > 0 else None
    source = BatchSource(setting.train, setting.trunk.base, config, setting.device, setting.seed, teacher)
    fit(model, source, config, optimizer=make_optimizer(model, config))
    return model


def headed(setting: Setting, model: nn.Module) -> nn.Module:
    """Give a cut network, in place, what it needs before training: norms measured, and a head fitted, on the images."""
    base, device = setting.trunk.base, setting.device
    model = model.to(device, memory_format=torch.channels_last)
    reestimate_norms(model, setting.train.images, base, device)
    set_head(model, ridge_head(model, setting.train, base, device).to(device))
    return model


def voted(config: VoteConfig, fitting: FitConfig) -> Method:
    """Meta-Vote Pruning with the given vote."""

    def run(s: Setting) -> nn.Module:
        found = [n for n in s.ranked if config.voters in ("auto", "any", n.info.breadth)]
        counts = target_counts(s.trunk.table, config.keep, config.align)
        plan, voters = vote(s.zoo, s.trunk, electorate(found, s.trunk, s.task, config), config, counts, s.seed)
        return tuned(s, assemble(s.trunk, plan, voters, s.task, s.train, device=s.device), fitting)

    return run


def taught(teacher: Callable[[Setting], torch.Tensor | None], fitting: FitConfig) -> Method:
    """A broad member that a teacher of one's choice teaches; asking it is part of the method's time."""

    def run(s: Setting) -> nn.Module:
        fresh = replace(s)
        fresh.__dict__.update(ranked=s.ranked, teacher=teacher(s))
        return voted(BROAD, fitting)(fresh)

    return run


def default(s: Setting) -> nn.Module:
    """What the command does with these images: a broad member that works already, fine-tuned as they allow."""
    if len(s.train) >= MANY_IMAGES:
        return voted(VoteConfig(), DISTILLED)(s)
    model = voted(VoteConfig(), NONE)(s)
    tuned = tune_warily(
        model, s.zoo, s.trunk, s.task, s.train, DISTILLED, device=s.device, seed=s.seed, progress=SilentProgress()
    )
    log.info("%d images: %s", len(s.train), tuned.mix)
    return model


def at_random(fitting: FitConfig, keep: float = 0.1) -> Method:
    """Random pruning: the base's own weights for units drawn uniformly, with a random head."""

    def run(s: Setting) -> nn.Module:
        counts = target_counts(s.trunk.table, keep, 8)
        plan: KeepPlan = random_plan(s.trunk.table, counts, rng(s.seed, f"random/{s.task.id}"))
        model = sliced_copy(s.trunk.model, s.trunk.table, plan)
        features = int(model.get_submodule(s.trunk.head).in_features)
        set_head(model, random_head(features, len(s.task.classes), torch_rng(s.seed, "head")))
        return tuned(s, model.to(s.device, memory_format=torch.channels_last), fitting)

    return run


def iterative(
    iterations: int, lr: float = 0.005, schedule: PruneSchedule | None = None, batch_size: int = 128
) -> Method:
    """IFP from the base model, for this task alone; the paper's rate unless another is given."""

    def run(s: Setting) -> nn.Module:
        fitting = FitConfig(iterations=iterations, lr=lr, batch_size=batch_size)
        return make_member(s.trunk, s.train, schedule or PruneSchedule(), fitting, device=s.device, seed=s.seed)[0]

    return run


def from_parent(fitting: FitConfig, every: int) -> Method:
    """A narrow member of the bundled zoo's recipe, made for the task itself."""

    def run(s: Setting) -> nn.Module:
        schedule = PruneSchedule(every=every)
        found = find_parent(s.zoo, s.trunk, s.task, schedule)
        parent = None if found is None else s.zoo.load(found)
        return make_member(
            s.trunk, s.train, schedule, fitting, device=s.device, seed=s.seed, parent=parent, teacher=s.base_teacher
        )[0]

    return run


def few(per_class: int, method: Method) -> Method:
    """A method that is given only so many training images of each class.

    Records called `default-N` are of an earlier rule, which left the member as it is below 50 images a class.
    """

    def run(s: Setting) -> nn.Module:
        fewer = replace(s, train=s.train.at_most(per_class, rng(s.seed, f"few/{s.task.id}")))
        fewer.__dict__["ranked"] = s.ranked  # by all images: the broad member that votes alone is the same
        return method(fewer)

    return run


def whole_base_tuned(fitting: FitConfig) -> Method:
    """Fine-tune the whole base model on the task."""
    return lambda s: tuned(s, whole_base(s), fitting)


def whole_base(s: Setting) -> nn.Module:
    """The base model with the task's rows of its head: the ceiling, 100 times as large."""
    model = copy.deepcopy(s.trunk.model)
    rows = shared_rows(s.task.names, s.trunk.base.classes, model.get_submodule(s.trunk.head))
    set_head(model, rows or ridge_head(model, s.train, s.trunk.base, s.device))
    return model.to(s.device, memory_format=torch.channels_last)


PAPER = FitConfig()
NONE = replace(PAPER, iterations=0)
DISTILLED = recipe("prune", "sgd")
NARROW = VoteConfig(voters="narrow")
BROAD = VoteConfig(voters="broad")
ANY = VoteConfig(voters="any")
NARROW_VOTERS = ("mvp", "one-neighbour", "any")
METHODS: dict[str, Method] = {
    "default": default,
    "few-5": few(5, default),
    "few-20": few(20, default),
    "few-100": few(100, default),
    "mvp-100": voted(NARROW, PAPER),
    "mvp-rate-100": voted(NARROW, replace(PAPER, lr=0.1)),  # as the experiment `rates` has chosen on held-out images
    "mvp-sample-100": voted(replace(NARROW, vote="sample"), PAPER),
    "mvp-distill-100": voted(NARROW, DISTILLED),
    "mvp-0": voted(NARROW, NONE),
    "one-neighbour-100": voted(replace(NARROW, neighbours=1), PAPER),
    "random-100": at_random(PAPER),
    "ifp-100": iterative(100),
    "ifp-300": iterative(300, 0.02),
    "ifp-1000": iterative(1000),
    "member-200": from_parent(FitConfig(iterations=200, batch_size=64, lr=0.03, distill=0.9), every=5),
    "broad-0": voted(BROAD, NONE),
    "broad-100": voted(BROAD, PAPER),
    "taught-by-cascade": taught(by_cascade, DISTILLED),
    "taught-by-base": taught(by_base, DISTILLED),
    "taught-by-member": taught(by_member, DISTILLED),
    "any-100": voted(ANY, PAPER),
    "any-distill-100": voted(ANY, DISTILLED),
    "base": whole_base,
    "base-100": whole_base_tuned(PAPER),
}
TAUGHT = ("default", "mvp-distill-100", "any-distill-100")  # on all images


def load(source: DataSource, task: Task, size: tuple[int, int], split: str) -> tuple[ImageSet, ImageSet]:
    """Return what to train on and what to score on."""
    images = source.load(task.names, "test" if split == "unseen" else "train", size)
    if split == "test":
        return images, source.load(task.names, "test", size)
    order = rng(0, split).permutation(len(images))
    cut = len(images) // 5
    fifth, others = images.subset(order[:cut]), images.subset(order[cut:])
    return (fifth, others) if split == "unseen" else (others, fifth)


def target_tasks(zoo: Zoo, classes: tuple[str, ...], ways: int, count: int, lists: str = "random") -> list[Task]:
    """Draw tasks whose exact class set is not in the zoo, or take the superclasses of CIFAR-100."""
    if lists == "superclasses":
        return [wordnet.resolve(Task(tuple(map(TaskClass, names)))) for names in SUPERCLASSES.values()][:count]
    taken = {i.task.id for i in zoo.infos()}
    return [t for t in sample_tasks(classes, ways, count + len(taken), TASK_SEED) if t.id not in taken][:count]


def identity(config: dict[str, Any]) -> tuple[object, ...]:
    """Return what a record is about; only where narrow members vote does it matter how many there are.

    Records of taught methods that name no teacher were made when the base model alone was one.
    """
    many = config["members"] if config["method"].startswith(NARROW_VOTERS) else None
    return config["task"], config["method"], config["base_sha256"], config["seed"], many, config.get("teacher")


def main() -> None:
    """Run the methods that have no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first task")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--lists", choices=["random", "superclasses"], default="random")
    parser.add_argument("--split", choices=["test", "held-out", "unseen"], default="test")
    parser.add_argument("--similarity", choices=["leep", "wordnet"], default="leep")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = resolve_device(args.device)
    zoo, source = open_zoo(args.zoo), open_source(args.data)
    trunk = Trunk.of(zoo.base, zoo.load_base())
    question = "targets" if args.lists == "random" else args.lists
    question += "" if args.split == "test" else f"-{args.split}"
    done = {identity(r["config"]) for r in records.read(question)}
    tasks = target_tasks(zoo, source.classes, 5, args.first + args.tasks, args.lists)[args.first :]
    for task in tasks:
        train, test = load(source, task, zoo.base.input_size, args.split)
        setting = Setting(zoo, trunk, task, train, test, device, args.seed, args.similarity)
        for name in args.methods.split(","):
            config = {
                "task": task.id, "classes": task.names, "method": name, "base_sha256": zoo.base.sha256,
                "seed": args.seed, "zoo": zoo.name, "members": len(zoo.ids()),
                **({"teacher": "cascade"} if name in TAUGHT else {}),
            }  # fmt: skip
            if identity(config) in done:
                continue
            if not name.startswith(("base", "random", "ifp")):
                _ = setting.ranked  # shared by several methods, so not in their time
            if name in TAUGHT:
                _ = setting.teacher
            if name == "member-200":
                _ = setting.base_teacher
            begin = time.perf_counter()
            model = METHODS[name](setting)
            seconds = time.perf_counter() - begin
            top1 = accuracy(predict(model, test.images, zoo.base, device), test).top1
            macs = count_macs(model.to("cpu"), zoo.base.input_size)
            records.append(
                question, config, {"top1": round(top1, 2), "seconds": round(seconds, 2), "macs": macs}, device
            )
            log.info("%s %s %.1f (%.0f s)", name, ",".join(task.names), top1, seconds)


if __name__ == "__main__":
    main()
