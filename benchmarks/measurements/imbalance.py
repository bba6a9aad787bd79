"""From which imbalance on should batches have equally many images of each class?

    python -m benchmarks imbalance --data DIR [--tasks 10]
    python -m benchmarks imbalance --data DIR --body lite0-64
    python -m benchmarks imbalance --data DIR --case

For each task, five random classes, and each ratio of the largest class to the smallest, training images are left out
until the sizes of the classes, in random order, fall geometrically by that ratio. What the tool starts with, a network
of the CIFAR-100 zoo or a body with a fitted head, is trained on the rest twice, with batches as the images are and with
equally many of each class. Balanced accuracy is measured on a fifth of the training images, held out.

`--case` is three classes with 200, 5 and 5 images and 10 iterations: the start, batches as the images are, and what the
tool delivers. It chooses nothing, and is measured on test images.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from benchmarks.command import Script
from benchmarks.measurements.own_photographs import resolved
from benchmarks.methods import NONE, TOOL, voted
from benchmarks.setting import Setting, load, target_tasks
from mvp_edge.config import FitConfig, PruneConfig, VoteConfig
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress, Stopwatch
from mvp_edge.core.streams import rng
from mvp_edge.data import DataSource, ImageSet, evened
from mvp_edge.names.base_classes import Resolution
from mvp_edge.prune.fit import fine_tune, is_low_data
from mvp_edge.prune.heads import Network, Photographs, seen
from mvp_edge.prune.learn import learn
from mvp_edge.prune.pictures import Pictures
from mvp_edge.report.record import PicturesRecord
from mvp_edge.training.frozen_head import named_logits
from mvp_edge.training.interpolation import balanced_top1
from mvp_edge.training.loop import BatchSource, fit, predict
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.voting.neighbours import Neighbour, sole_voter
from mvp_edge.zoo.bodies import Body, BodyZoo, open_bodies

WAYS = 5
RATIOS = (1, 2, 3, 5, 10, 40)
CASE = (200, 5, 5)
RULE = "mvp_edge.data.batches.IMBALANCED"
DRAWN = {"given": float("inf"), "even": 1.0}  # the limits from which classes are drawn equally often
CPU = torch.device("cpu")


def thinned(images: ImageSet, sizes: Sequence[int], seed: int) -> ImageSet:
    """Return so many images of each class, drawn at random; fewer with the same seed are a part of more."""
    order = torch.from_numpy(rng(seed, "thinned").permutation(len(images)))
    kept = [order[images.labels[order] == label][:size] for label, size in enumerate(sizes)]
    return images.subset(torch.cat(kept).sort().values)


def sizes(images: ImageSet, ratio: float, seed: int) -> list[int]:
    """Return sizes of the classes, in random order, from the least number of images of any down by `ratio`."""
    count = len(images.classes)
    falling = int(images.labels.bincount().min()) * ratio ** (-np.arange(count) / (count - 1))
    return [max(2, round(size)) for size in rng(seed, "sizes").permutation(falling)]


def alone(s: Setting) -> list[Neighbour]:
    """Return the generalist that votes alone, as for a command without a budget."""
    return sole_voter([Neighbour(i, 0.0) for i in s.zoo.generalists()], s.prunable, s.task, VoteConfig())


def balanced(s: Setting, model: nn.Module) -> float:
    """Return a network's balanced accuracy in percent on the images to score on."""
    return balanced_top1(predict(model, s.test.images, s.prunable.base, s.device), s.test.labels)


def trained(s: Setting, start: nn.Module, drawn: str, config: FitConfig = TOOL) -> float:
    """Return the balanced accuracy after training on batches that are drawn in one of the ways."""
    model = copy.deepcopy(start)
    with patch(RULE, DRAWN[drawn]):
        source = BatchSource(s.train, s.prunable.base, config, s.device, s.seed, rows=evened(s.train.labels))
    fit(model, source, config, optimizer=make_optimizer(model, config))
    return balanced(s, model)


def of_member(s: Setting) -> dict[str, float]:
    """Return the balanced accuracy of a network of the zoo before training, and after it with either draw."""
    start = voted(VoteConfig(), NONE, alone)(s)
    return {"start": balanced(s, start)} | {drawn: trained(s, start, drawn) for drawn in DRAWN}


def of_body(zoo: BodyZoo, body: Body, resolution: Resolution, s: Setting) -> dict[str, float]:
    """Return the same of a body, whose head is fitted first."""
    record = PicturesRecord(len(s.train), {}, {}, 0, (), (), "")
    given = Photographs(zoo, resolution, Network.of(zoo, body), Pictures(s.train, None, None, (), record, ()), "")
    config, found = PruneConfig(Path(), "", schedule="fixed", seed=s.seed), {}
    for drawn, limit in DRAWN.items():
        with patch(RULE, limit):
            learned = learn(given, config, s.device, SilentProgress(), Stopwatch())
        for name, state in (("start", learned.before or learned.state), (drawn, learned.state)):
            logits = named_logits(seen(given.graph(state), s.test.images)[1], learned.rows)
            found[name] = balanced_top1(logits, s.test.labels)
    return found


def case(s: Setting) -> dict[str, float]:
    """Return the balanced accuracy of the start, of ten iterations on batches as the images are, and as delivered."""
    start, fitting = voted(VoteConfig(), NONE, alone)(s), replace(TOOL, iterations=10)
    found = {"start": balanced(s, start), "given": trained(s, start, "given", fitting)}
    config = PruneConfig(Path(), "", fit=fitting, seed=s.seed)
    low_data = is_low_data(s.train, config, works=True)
    fine_tune(
        start, s.prunable, s.train, None, None, config, low_data=low_data, device=s.device, progress=SilentProgress(),
        clock=Stopwatch(),
    )  # fmt: skip
    return found | {"delivered": balanced(s, start)}


def drawn_names(source: DataSource, zoo: BodyZoo, seed: int) -> Resolution:
    """Return five random names of the data that the command takes, with what stands for each."""
    draw = rng(seed, source.name)
    while True:
        names = [source.classes[i] for i in draw.choice(len(source.classes), WAYS, replace=False)]
        if (resolution := resolved(names, zoo)) is not None:
            return resolution


def main(argv: Sequence[str]) -> None:
    """Measure, and append the records that are missing."""
    script = Script("imbalance", __doc__, "data", "zoo")
    script.add("--tasks", type=int, default=10)
    script.add("--ratios", type=int, nargs="+", default=RATIOS)
    script.add("--body", help="of the photograph zoo, in place of a network of the CIFAR-100 zoo")
    script.add("--case", action="store_true")
    args = script.parse(argv)
    torch.set_num_threads(1)
    zoo = open_bodies(None)
    if zoo is None:
        raise ConfigError("the bundled zoo is no zoo of bodies")
    body = next((b for b in zoo.bodies if b.id == args.body), None)
    ways, split = (len(CASE), "test") if args.case else (WAYS, "held-out")
    for number in range(args.tasks):
        resolution = None if body is None else drawn_names(script.source, zoo, number)
        if resolution is None:
            task = target_tasks(script.zoo, script.source.classes, ways, args.tasks)[number]
        else:
            task = resolution.task
        size = script.zoo.base.input_size if body is None else (body.pixels, body.pixels)
        train, test = load(script.source, task, size, split)
        for ratio in (CASE[0] // CASE[-1],) if args.case else args.ratios:
            about = {
                "kind": "case" if args.case else "ratio", "data": script.source.name, "task": number,
                "names": list(task.names), "ratio": ratio, "start": script.zoo.name if body is None else body.id,
            }  # fmt: skip
            if about in script.done():
                continue
            given = thinned(train, CASE if args.case else sizes(train, ratio, number), number)
            s = Setting(script.zoo, script.prunable, task, given, test, CPU, number)
            if body is not None and resolution is not None:
                found = of_body(zoo, body, resolution, s)
            else:
                found = (case if args.case else of_member)(s)
            counts = {"sizes": given.labels.bincount().tolist()}
            script.record(about, counts | {name: round(top1, 2) for name, top1 in found.items()})
