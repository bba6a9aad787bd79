"""Whether votes win on photographs: networks of equal multiply-adds, the same head and training; who decides differs.

    python -m benchmarks specialists --pictures DIR --data caltech101=DIR --members DIR [--larger lite0-64]
        [--smaller lite0-64-pruned] [--count 60] [--tasks 10] [--classes 5] [--shots 20] [--ways NAME,NAME]

Two bodies of the photograph zoo: the multiply-adds of the smaller are the budget of all others, which keep a part of
the larger one's hidden units. A specialist is made for five random classes of the pictures (`DIR/CLASS/*`): its units
are those that matter to its classes, its projections are solved on their pictures, and it is trained as `prune` trains
photographs. Beside it stand the smaller body, trained on the same pictures, and the same by names alone. Then tasks of
other data (`DIR/{train,test}/CLASS/*`), of five names each, or as many as `--classes` says:

- `smaller body`: as the zoo has it.
- `generic units`: units and projections for pictures of all classes.
- `own units`: units and projections for the task's own pictures.
- `votes`: units that most of the five nearest specialists keep, projections solved on the task's own pictures.
- `votes of 1`, `votes of 20`, `votes of all`: the same, and so many specialists vote.
- `MVP`: the units of `votes`, with the voters' mean weights (Algorithm 1).
- `IFP`: iterative filter pruning of the larger body on the task's pictures (Algorithm 2), 1,000 iterations.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.command import Script, log
from benchmarks.lite0 import body
from benchmarks.measurements.photographs import SUFFIXES, WAYS
from mvp_edge.config import FitConfig, PruneSchedule
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet, evened, normalise, open_source
from mvp_edge.data.images import decode_all
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import Base
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.heads import shared_rows
from mvp_edge.models.macs import count_macs
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.models.tensors import deserialise, serialise
from mvp_edge.prune.heads import parts_of
from mvp_edge.prune.learn import CROP, share_kept
from mvp_edge.prune.pictures import read_pictures
from mvp_edge.pruners import base_importance
from mvp_edge.pruners.ifp import iterative_prune
from mvp_edge.pruners.reconstruction import counts_within, hidden_groups, importance, reconstructed
from mvp_edge.pruners.units import top_plan
from mvp_edge.training.early_layers import freeze_early
from mvp_edge.training.frozen_head import choose_head, fit_head
from mvp_edge.training.interpolation import interpolate
from mvp_edge.training.loop import BatchSource, fit, predict
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.training.recipes import recipe
from mvp_edge.voting.leep import leep
from mvp_edge.voting.meta_vote import average, count_votes, select_units

Network = tuple[Base, nn.Module]

CPU = torch.device("cpu")
IFP = "IFP"
UNTRAINED = "names alone"
COMPARED = ("smaller body", "generic units", "own units", "votes", "votes of all", "MVP")
VOTERS = {"votes": 5, "votes of 1": 1, "votes of 20": 20, "votes of all": None, "MVP": 5}  # how many vote; None: all
MADE_OF = 100  # pictures of a class that a specialist is made of; as many others tell how good it is
GENERIC = 10  # the last pictures of each class: they choose units for all classes
ASKED = 100  # training images that rank the specialists
IFP_STEPS = 1000


@dataclass(frozen=True, eq=False)
class Specialist:
    """A network of five classes: its plan, and its tensors with its head."""

    plan: KeepPlan
    state: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Larger:
    """The network that is pruned, and what each group keeps."""

    prunable: PrunableModel
    counts: Mapping[str, int]

    @property
    def base(self) -> Base:
        """Its pixels and colours."""
        return self.prunable.base

    @cached_property
    def tie_break(self) -> dict[str, np.ndarray]:
        """Importance of the base's units, which decides between units of equal votes."""
        return base_importance(self.prunable.model, self.prunable.table)

    def plan(self, scores: Mapping[str, np.ndarray]) -> KeepPlan:
        """Return the plan of the units that score highest."""
        return top_plan(self.prunable.table, dict(scores), dict(self.counts))

    def for_pictures(self, images: Tensor) -> tuple[KeepPlan, nn.Module]:
        """Return the units that matter to some pictures, and the network with projections solved on them."""
        images = self.normal(images)
        plan = self.plan(importance(self.prunable, images))
        return plan, reconstructed(self.prunable, plan, images)

    def normal(self, images: Tensor) -> Tensor:
        """Return uint8 images as the network takes them."""
        return normalise(images, self.base.mean, self.base.std)

    def voted(self, voters: Sequence[Specialist], seed: int) -> KeepPlan:
        """Return the plan that specialists vote for (Equation 1, temperature to 0)."""
        return select_units(
            count_votes([v.plan for v in voters]), self.counts, vote="top", temperature=1.0,
            tie_break=self.tie_break, rng=rng(seed, "vote"),
        )  # fmt: skip

    def averaged(self, plan: KeepPlan, voters: Sequence[Specialist]) -> nn.Module:
        """Return the network of a plan with the voters' mean weights (Algorithm 1, line 4)."""
        prunable = self.prunable
        network = sliced_copy(prunable.model, prunable.table, plan)
        states = [(v.plan, prunable.headless(dict(v.state))) for v in voters]
        network.load_state_dict(average(prunable.table, plan, network.state_dict(), states))
        return network

    def of(self, specialist: Specialist) -> nn.Module:
        """Return a specialist's network."""
        network = sliced_copy(self.prunable.model, self.prunable.table, specialist.plan)
        rows = specialist.state[f"{self.prunable.head}.weight"]
        set_head(network, nn.Linear(rows.shape[1], rows.shape[0]))
        network.load_state_dict(specialist.state, strict=False)  # the counters of norms are not stored
        return network.eval()


class Features(nn.Module):
    """A network of timm without its classifier."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return features `(N, D)`."""
        return self.network.forward_head(self.network.forward_features(images), pre_logits=True)


def trained(network: nn.Module, base: Base, train: ImageSet, settings: FitConfig, seed: int) -> nn.Module:
    """Return the network with a head fitted to its features, trained, and part of the way back (WiSE-FT).

    As `prune` does for photographs of names that no base knows, but that it keeps the training unjudged.
    """
    network = copy.deepcopy(network).eval()
    _with_head(network, base, train, seed)
    if settings.iterations == 0:
        return network
    before = {k: v.clone() for k, v in network.state_dict().items()}
    freeze_early(network)
    source = BatchSource(train, base, settings, CPU, seed, rows=evened(train.labels))
    fit(network, source, settings, optimizer=make_optimizer(network, settings))
    network.load_state_dict(interpolate(before, network.state_dict(), share_kept(train)))
    return network.eval()


def _with_head(network: nn.Module, base: Base, train: ImageSet, seed: int) -> None:
    """Give a network a logistic head for its own features, in place; its decay is chosen on images left out."""
    features = predict(Features(network), train.images, base, CPU)
    prior = torch.zeros(len(train), len(train.classes))
    choice = choose_head(
        features, train.labels, prior, parts_of(train, seed), all_known=False, any_known=False,
        generator=rng(seed, "parts"),
    )  # fmt: skip
    rows = fit_head(features, train.labels, prior, choice.kind)
    head = nn.Linear(features.shape[1], len(train.classes))
    with torch.no_grad():
        head.weight.copy_(rows.weight)
        head.bias.copy_(rows.bias)
    set_head(network, head)


def iteratively_pruned(larger: Larger, train: ImageSet, settings: FitConfig, seed: int) -> nn.Module:
    """Return the larger network pruned to the counts on the task's pictures by Algorithm 2, in evaluation mode."""
    network, table = copy.deepcopy(larger.prunable.model).eval(), larger.prunable.table
    _with_head(network, larger.base, train, seed)
    hidden = GroupTable(tuple(g for g in table.groups if g.name in hidden_groups(table)))
    share = sum(larger.counts[g.name] for g in hidden.groups) / sum(g.width for g in hidden.groups)
    settings = replace(settings, iterations=IFP_STEPS)
    source = BatchSource(train, larger.base, settings, CPU, seed, rows=evened(train.labels))
    schedule = PruneSchedule(keep=share, channel_multiple=8)
    iterative_prune(network, hidden, source, schedule, settings, rng=rng(seed, "ifp"))
    return network.eval()


def by_names(network: nn.Module, base: Base, names: Sequence[str]) -> nn.Module:
    """Return a network of all classes as it tells these apart untrained: their rows of the last layer."""
    network = copy.deepcopy(network)
    if (head := shared_rows(names, base.classes, head_of(network))) is None:
        raise ConfigError(f"the network does not know all of {', '.join(names)}")
    set_head(network, head)
    return network.eval()


def accuracy(network: nn.Module, base: Base, test: ImageSet) -> float:
    """Return the percent right, every class counting alike."""
    said = predict(network, test.images, base, CPU).argmax(1)
    return 100 * float(np.mean([(said[test.labels == k] == k).float().mean() for k in test.labels.unique()]))


def class_pictures(directory: Path) -> dict[str, list[Path]]:
    """Return the pictures of each class, in random order; classes with too few are left out."""
    found = {}
    for folder in sorted(p for p in directory.iterdir() if p.is_dir()):
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if len(files) >= 2 * MADE_OF + GENERIC:
            found[folder.name] = [files[i] for i in rng(0, "pictures").permutation(len(files))]
    return found


def images_of(files: Mapping[str, Sequence[Path]], part: slice, base: Base) -> ImageSet:
    """Return a part of the pictures of each class."""
    chosen = [(p, k) for k, paths in enumerate(files.values()) for p in paths[part]]
    pixels = decode_all([p for p, _ in chosen], [k for _, k in chosen], base.input_size)
    return ImageSet(pixels.images, pixels.labels, tuple(files))


def make_specialists(
    script: Script, pictures: Mapping[str, list[Path]], larger: Larger, smaller: Network, settings: FitConfig
) -> None:
    """Make the specialists that are missing; a record of each tells what it is worth on its own classes.

    Another record tells what the smaller body is worth there by names alone. Without tasks nothing votes, and
    specialists that are on record are not made again.
    """
    args, (base, small) = script.args, smaller
    made_of, told_by = slice(MADE_OF), slice(MADE_OF, 2 * MADE_OF)
    for number in range(args.count):
        draw = rng(number, "specialist")
        names = [sorted(pictures)[i] for i in draw.choice(len(pictures), WAYS, replace=False)]
        about = {"specialist": number, "names": names, "larger": args.larger, "smaller": args.smaller}
        files = {n: pictures[n] for n in names}
        if (untrained := about | {"way": UNTRAINED}) not in script.done():
            found = {UNTRAINED: accuracy(by_names(small, base, names), base, images_of(files, told_by, base))}
            script.record(untrained, {k: round(v, 2) for k, v in found.items()})
        target = args.members / f"{number}.safetensors"
        if target.exists() or (args.tasks == 0 and about in script.done()):
            continue
        train = images_of(files, made_of, larger.base)
        plan, network = larger.for_pictures(train.images)
        network = trained(network, larger.base, train, settings, number)
        if about not in script.done():
            rival = trained(small, base, images_of(files, made_of, base), settings, number)
            found = {
                "specialist": accuracy(network, larger.base, images_of(files, told_by, larger.base)),
                "smaller body": accuracy(rival, base, images_of(files, told_by, base)),
            }
            script.record(about, {k: round(v, 2) for k, v in found.items()})
        state = larger.prunable.state_of(network)
        write_atomically(target, serialise(state, "float16", {"plan": json.dumps(plan.to_json())}))


def read_specialists(directory: Path) -> list[Specialist]:
    """Return the specialists that `make_specialists` wrote, by number."""
    found = []
    for file in sorted(directory.glob("*.safetensors"), key=lambda p: int(p.stem)):
        state, metadata = deserialise(file.read_bytes())
        found.append(Specialist(KeepPlan.from_json(json.loads(metadata["plan"])), state))
    return found


class Ways:
    """How each way makes the network that is then trained on a task's pictures."""

    def __init__(self, larger: Larger, smaller: Network, generic: nn.Module, specialists: Sequence[Specialist]) -> None:
        self.larger, self.smaller, self.generic, self.specialists = larger, smaller, generic, specialists

    def make(self, way: str, train: ImageSet, settings: FitConfig, seed: int) -> nn.Module:
        """Return the network before its training, but for IFP, whose training is part of it."""
        larger = self.larger
        if way == "smaller body":
            return self.smaller[1]
        if way == "generic units":
            return self.generic
        if way == "own units":
            return larger.for_pictures(train.images)[1]
        if way == IFP:
            return iteratively_pruned(larger, train, settings, seed)
        voters = self.nearest(train, VOTERS[way], seed)
        plan = larger.voted(voters, seed)
        if way == "MVP":
            return larger.averaged(plan, voters)
        return reconstructed(larger.prunable, plan, larger.normal(train.images))

    def nearest(self, train: ImageSet, count: int | None, seed: int) -> Sequence[Specialist]:
        """Return so many specialists, nearest first by LEEP on training images; all of them for None."""
        if count is None:
            return self.specialists
        some = train.subset(rng(seed, "ranking").permutation(len(train))[:ASKED])
        scores = [
            leep(predict(self.larger.of(s), some.images, self.larger.base, CPU).softmax(1), some.labels)
            for s in self.specialists
        ]
        return [self.specialists[i] for i in np.argsort(-np.array(scores), kind="stable")[:count]]


def main(argv: Sequence[str]) -> None:
    """Make specialists, then compare who decides on tasks of other data; append a record for each network."""
    script = Script("specialists", __doc__)
    script.add("--larger", default="lite0-64", help="the body that is pruned")
    script.add("--smaller", default="lite0-64-pruned", help="the body whose multiply-adds are the budget")
    script.add("--pictures", type=Path, required=True, help="training pictures of many classes")
    script.add("--members", type=Path, required=True, help="where specialists are kept")
    script.add("--data", action="append", default=[], metavar="NAME=DIR")
    script.add("--count", type=int, default=60, help="specialists")
    script.add("--tasks", type=int, default=10)
    script.add("--classes", type=int, default=WAYS, help="names of a task")
    script.add("--shots", type=int, default=20)
    script.add("--ways", default=",".join(COMPARED), help="who decides; IFP takes minutes a task")
    args = script.parse(argv)
    compared = args.ways.split(",")
    known = dict.fromkeys((*COMPARED, *VOTERS, IFP))
    if unknown := set(compared) - known.keys():
        raise ConfigError(f"--ways: {', '.join(sorted(unknown))} is none of {', '.join(known)}")
    args.members.mkdir(parents=True, exist_ok=True)
    base, small = smaller = body(args.smaller)
    prunable = PrunableModel.of(*body(args.larger))
    settings = replace(recipe("photographs", "adamw"), crop=prunable.base.input_size[0] // CROP)
    pictures = class_pictures(args.pictures)
    everything = images_of({n: p[-GENERIC:] for n, p in pictures.items()}, slice(None), prunable.base)
    scores = importance(prunable, normalise(everything.images, prunable.base.mean, prunable.base.std))
    larger = Larger(prunable, counts_within(prunable, scores, count_macs(small, base.input_size)))
    make_specialists(script, pictures, larger, smaller, settings)
    specialists = read_specialists(args.members)
    ways = Ways(larger, smaller, larger.for_pictures(everything.images)[1], specialists)
    for text in args.data:
        name, _, directory = text.partition("=")
        source = open_source(directory)
        for task in range(args.tasks):
            draw = rng(task, name)
            names = [source.classes[i] for i in draw.choice(len(source.classes), args.classes, replace=False)]
            for way in compared:
                about = {
                    "data": name, "task": task, "names": names, "shots": args.shots, "way": way,
                    "larger": args.larger, "smaller": args.smaller, "specialists": len(specialists),
                }  # fmt: skip
                if about in script.done():
                    continue
                at = base if way == "smaller body" else larger.base
                read = read_pictures(source, names, at.input_size, SilentProgress())
                if read.test is None:
                    raise ConfigError(f"{name}: all test images of {', '.join(names)} are copies of training images")
                train = read.train.at_most(args.shots, rng(task, "shots"))
                began = time.perf_counter()
                network, found = ways.make(way, train, settings, task), dict[str, float]()
                if way != IFP:
                    head = trained(network, at, train, replace(settings, iterations=0), task)
                    found["head"] = accuracy(head, at, read.test)
                    network = trained(network, at, train, settings, task)
                found |= {
                    "top1": accuracy(network, at, read.test), "seconds": time.perf_counter() - began,
                    "mmacs": count_macs(network, at.input_size) / 1e6,
                }  # fmt: skip
                log.info("%s, task %d, %s", name, task, way)
                script.record(about, {k: round(v, 2) for k, v in found.items()})
