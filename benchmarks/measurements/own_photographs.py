"""What photographs of one's own are worth: names alone, a head on frozen features, what `prune --data` delivers.

    python -m benchmarks own-photographs --data flowers102=DIR --body lite0-64 --foreign DIR [--shots 5,20,100]

A directory has `train/NAME/*` and `test/NAME/*`. Each task is five random names; so many photographs of each are
learned from, and the test images of these names only tell how good the result is. Pictures of none of the classes are
near, the test images of other names of the data, and far, those of another directory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.command import Script, log
from benchmarks.measurements.photographs import KEPT, SUFFIXES, WAYS
from mvp_edge.config import FitOverrides, PruneConfig
from mvp_edge.core.errors import ConfigError, TaskError
from mvp_edge.core.progress import SilentProgress, Stopwatch
from mvp_edge.core.streams import rng
from mvp_edge.data import DataSource, ImageSet, open_source
from mvp_edge.data.images import decode_all
from mvp_edge.names.base_classes import Resolution, resolve_to_base
from mvp_edge.names.known import listed_logits
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune.heads import Network, Photographs, seen
from mvp_edge.prune.learn import Learned, cut_without, learn
from mvp_edge.prune.nearness import cosines_with
from mvp_edge.prune.pictures import read_pictures
from mvp_edge.prune.teacher import LEAST
from mvp_edge.training.frozen_head import named_logits
from mvp_edge.zoo.bodies import Body, BodyZoo, open_bodies

FOREIGN = 400  # pictures of other names, at most


def resolved(names: Sequence[str], zoo: BodyZoo) -> Resolution | None:
    """Return what stands for each name; None if the base does not tell them apart, so that names alone cannot do."""
    try:
        return resolve_to_base(Task(tuple(TaskClass(n, None) for n in names)), zoo.classes)
    except TaskError:
        return None


def known_names(names: Sequence[str], zoo: BodyZoo) -> list[str]:
    """Return the names that the base knows, in one sense."""
    found = []
    for name in names:
        with suppress(TaskError):
            if not resolve_to_base(Task((TaskClass(name.replace("_", " "), None),)), zoo.classes).unknown:
                found.append(name)
    return found


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the percent right, every class counting the same."""
    return 100 * float(np.mean([(logits[labels == k].argmax(1) == k).mean() for k in np.unique(labels)]))


def none_of_these(given: Photographs, learned: Learned, test: ImageSet, foreign: Tensor) -> dict[str, float]:
    """Return how many listed and other pictures the delivered threshold takes, and false accepts at 95 % kept."""
    (shown, listed), (others, strange) = (seen(given.graph(learned.state), i) for i in (test.images, foreign))
    sure = [named_logits(logits, learned.rows).softmax(1).amax(1).numpy() for logits in (listed, strange)]
    found = {"softmax": _accepted(sure[1], np.quantile(sure[0], 1 - KEPT))}
    if (near := learned.nearness) is not None:
        cosine = [cosines_with(torch.from_numpy(near.means), f).numpy() for f in (shown, others)]
        found["known"] = _accepted(cosine[1], np.quantile(cosine[0], 1 - KEPT))
        found["delivered"] = _accepted(cosine[1], near.threshold)
        found["kept"] = _accepted(cosine[0], near.threshold)
    return found


def _accepted(scores: np.ndarray, threshold: float) -> float:
    return 100 * float((scores >= threshold).mean())


def trial(
    zoo: BodyZoo, network: Network, source: DataSource, resolution: Resolution, shots: int, config: PruneConfig
) -> tuple[Photographs, Learned, ImageSet, dict[str, float | bool]]:
    """Learn from so many photographs of each name.

    Returns:
        What was given and learned, the test images, and accuracies on these, with seconds.
    """
    size = (network.body.pixels, network.body.pixels)
    pictures = read_pictures(source, resolution.task.names, size, SilentProgress())
    if (test := pictures.test) is None:
        raise ConfigError("all test images are copies of training images")
    pictures = replace(pictures, train=pictures.train.at_most(shots, rng(config.seed, "shots")), val=None)
    network = cut_without(network, pictures.train, config.seed)
    given = Photographs(zoo, resolution, network, pictures, source.name)
    began = time.perf_counter()
    learned = learn(given, config, torch.device("cpu"), SilentProgress(), Stopwatch())
    found: dict[str, float | bool] = {"seconds": time.perf_counter() - began, "trained": learned.changed}
    found["taught"] = learned.teacher is not None
    if learned.choice is not None:
        found["left_out"] = learned.choice.top1
    for name, state in (("delivered", learned.state), ("head", learned.before or learned.state)):
        logits = named_logits(seen(given.graph(state), test.images)[1], learned.rows)
        found[name] = accuracy(logits.numpy(), test.labels.numpy())
    return given, learned, test, found


def foreign(source: DataSource, names: Sequence[str], pixels: int, seed: int, far: Sequence[Path]) -> dict[str, Tensor]:
    """Return pictures of none of the names, at so many pixels: of other names of the data, and from elsewhere."""
    size = (pixels, pixels)
    near = source.load([c for c in source.classes if c not in names], "test", size).images
    return {
        "near": near[rng(seed, "foreign").permutation(len(near))[:FOREIGN]],
        "far": decode_all(far, [0] * len(far), size).images,
    }


def random_tasks(data: str, classes: Sequence[str], zoo: BodyZoo, count: int) -> Iterator[Resolution]:
    """Yield tasks of five random classes of the data of this name, which the base tells apart."""
    for task in range(count):
        draw = rng(task, data)
        while True:
            names = [classes[int(i)] for i in draw.choice(len(classes), WAYS, replace=False)]
            if (resolution := resolved(names, zoo)) is not None:
                yield resolution
                break


def taught_by(zoo: BodyZoo, body: Body, shots: int) -> str | None:
    """Return the body that may teach another; None if none does, as with few photographs."""
    return zoo.bodies[0].id if body.macs < zoo.bodies[0].macs and shots >= LEAST else None


def main(argv: Sequence[str]) -> None:
    """Run random tasks of each data set with each body and number of photographs; append a record for each task."""
    script = Script("own-photographs", __doc__)
    script.add("--zoo", default=None)
    script.add("--data", action="append", required=True, metavar="NAME=DIR")
    script.add("--body", action="append", required=True)
    script.add("--foreign", type=Path, required=True, help="pictures of nothing that the data name")
    script.add("--shots", default="5,20,100")
    script.add("--tasks", type=int, default=20)
    script.add("--threads", type=int, default=1)
    script.add(
        "--schedule", default="auto", choices=["auto", "fixed"], help="fixed: keep all of the training, unjudged"
    )
    script.add("--iterations", type=int, default=None)
    script.add("--known", action="store_true", help="only names that the base knows")
    args = script.parse(argv)
    torch.set_num_threads(args.threads)
    zoo = open_bodies(args.zoo)
    if zoo is None:
        raise ConfigError(f"{args.zoo} is no zoo of bodies")
    fit = FitOverrides(iterations=args.iterations)
    config = PruneConfig(Path("classes.txt"), None, schedule=args.schedule, fit=fit)
    files = sorted(p for p in args.foreign.rglob("*") if p.suffix.lower() in SUFFIXES)
    far = [files[i] for i in rng(0, "far").permutation(len(files))[:FOREIGN]]
    for text in args.data:
        name, _, directory = text.partition("=")
        source = open_source(directory)
        classes = source.classes
        if args.known:
            classes = known_names(classes, zoo)
        for task, resolution in enumerate(random_tasks(name, classes, zoo, args.tasks)):
            names = list(resolution.task.names)
            for body in [b for b in zoo.bodies if b.id in args.body]:
                for shots in map(int, args.shots.split(",")):
                    about = {
                        "data": name, "task": task, "names": names, "known": not resolution.unknown, "body": body.id,
                        "macs": body.macs, "shots": shots, "threads": args.threads, "schedule": args.schedule,
                        "iterations": args.iterations,
                    }  # fmt: skip
                    if teacher := taught_by(zoo, body, shots):
                        about["teacher"] = teacher
                    if about in script.done():
                        continue
                    seeded, network = replace(config, data=source.name, seed=task), Network.of(zoo, body)
                    given, learned, test, found = trial(zoo, network, source, resolution, shots, seeded)
                    if given.all_known:
                        _, logits = seen(zoo.graph(body, network.weights), test.images)
                        found["names"] = accuracy(listed_logits(logits.numpy(), resolution.groups), test.labels.numpy())
                    for kind, images in foreign(source, names, body.pixels, task, far).items():
                        told = none_of_these(given, learned, test, images)
                        found |= {k if k == "kept" else f"{kind}_{k}": v for k, v in told.items()}
                    script.record(about, {k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()})
                    log.info("%s task %d, %s, %d a class: %s", name, task, body.id, shots, found)
