"""Does cross-fitting LEEP cost anything in the ranking of neighbours, and what does pure noise score?

    python -m benchmarks leep --data DIR [--zoo DIR] [--tasks 20] [--few 5] [--scores]

On random 5-class tasks of the data set, all generalists and the 32 specialists nearest by WordNet are scored on 256
images and on `--few` images a class by four scores: LEEP as published (`leep`), with P(y|z) from one half of the images
and the score on the other, both ways (`halves`), leave-one-out with one image's weight for the prior (`ours`), and with
a tenth of that, as the tool does (`tenth`). A score is compared with a linear classifier fitted to 200 images on each
member's features, on test images (`probe`), and with the network that the five nearest specialists vote for, its head
fitted to the same 200 images, without a training step (`voted`). With `--scores` nothing is compared: the scores alone
show how far a data set is from the zoo. One record for each task, in `results/measurements/leep.jsonl`, and one for
noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.command import Script
from mvp_edge.config import VoteConfig
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import set_head
from mvp_edge.models.heads import ridge_head
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.ranking import ClassLists, rank
from mvp_edge.names.tasks import Task
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.leep import leep as cross_fitted
from mvp_edge.voting.meta_vote import assemble, vote
from mvp_edge.voting.neighbours import RANKING_IMAGES, Neighbour
from mvp_edge.zoo.store import Zoo

CPU = torch.device("cpu")
WAYS, NEAREST, SPECIALISTS, PROBE_IMAGES, TEST_IMAGES = 5, 5, 32, 200, 200
SHARPNESS, DRAWS = 3.0, 20  # of noise: standard deviation of the logits, and how often it is drawn


def leep(theta: Tensor, labels: Tensor) -> float:
    """Return LEEP as published."""
    joint = torch.zeros(int(labels.max()) + 1, theta.shape[1], dtype=torch.float64).index_add_(0, labels, theta)
    conditional = joint / joint.sum(0).clamp(min=1e-12)
    return float((conditional[labels] * theta).sum(1).clamp(min=1e-12).log().mean())


def halves(theta: Tensor, labels: Tensor) -> float:
    """Return LEEP with P(y|z) from one half of each class and the score on the other, both ways, averaged."""
    prior = labels.bincount().double() / len(labels)
    half = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        half[(labels == label).nonzero().flatten()[::2]] = True
    total = 0.0
    for fit, score in ((half, ~half), (~half, half)):
        joint = torch.zeros(len(prior), theta.shape[1], dtype=torch.float64).index_add_(0, labels[fit], theta[fit])
        conditional = (joint + prior[:, None]) / (joint.sum(0) + 1)
        total += float((conditional[labels[score]] * theta[score]).sum(1).log().sum())
    return total / len(labels)


SCORES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "leep": leep,
    "halves": halves,
    "ours": partial(cross_fitted, prior_images=1.0),
    "tenth": partial(cross_fitted, prior_images=0.1),
}


def sample(images: ImageSet, count: int, purpose: str) -> ImageSet:
    """Return images drawn at random."""
    return images.subset(rng(0, purpose).permutation(len(images))[:count])


def few_of(images: ImageSet, each: int) -> list[int]:
    """Return the positions of the first images of each class."""
    return [int(i) for label in images.labels.unique() for i in (images.labels == label).nonzero().flatten()[:each]]


def members(zoo: Zoo, task: Task) -> list[str]:
    """Return all generalists and the specialists nearest by WordNet."""
    infos = [i for i in zoo.infos() if i.task.id != task.id]
    words = rank(task, ClassLists.of(i.task for i in infos))
    nearest = [i for _, i in sorted(zip(words, infos, strict=True), key=lambda p: (-p[0], p[1].id))]
    specialists = [i.id for i in nearest if i.kind == "specialist"][:SPECIALISTS]
    return [i.id for i in nearest if i.kind == "generalist"] + specialists


Scores = dict[tuple[str, str], dict[str, float]]  # (number of images, score) -> member -> value


@torch.no_grad()
def score(zoo: Zoo, prunable: PrunableModel, task: Task, train: ImageSet, few: int) -> Scores:
    """Return what every member scores on `many` and on `few` images."""
    ranking = sample(train, RANKING_IMAGES, "ranking")
    chosen = {"many": list(range(len(ranking))), "few": few_of(ranking, few)}
    found: Scores = {(size, name): {} for size in chosen for name in SCORES}
    for name in members(zoo, task):
        model = zoo.load(zoo.info(name)).network(prunable)
        theta = predict(model, ranking.images, prunable.base, CPU).double().softmax(1)
        for (size, kind), mine in found.items():
            mine[name] = SCORES[kind](theta[chosen[size]], ranking.labels[chosen[size]])
    return found


def summary(zoo: Zoo, found: Scores) -> dict[str, dict[str, float]]:
    """Return the highest score of any member and of a specialist."""
    specialists = {i.id for i in zoo.infos() if i.kind == "specialist"}
    return {
        f"{size}/{kind}": {
            "nearest": round(max(mine.values()), 4),
            "nearest_specialist": round(max(v for n, v in mine.items() if n in specialists), 4),
        }
        for (size, kind), mine in found.items()
    }


@torch.no_grad()
def compare(
    zoo: Zoo, prunable: PrunableModel, task: Task, train: ImageSet, test: ImageSet, found: Scores
) -> dict[str, object]:
    """Return for each number of images and each score what its ranking is worth."""
    fitting, held_out = sample(train, PROBE_IMAGES, "probe"), sample(test, TEST_IMAGES, "test")
    probes = {}
    for name in members(zoo, task):
        model = zoo.load(zoo.info(name)).network(prunable)
        set_head(model, ridge_head(model, fitting, prunable.base, CPU))
        probes[name] = accuracy(predict(model, held_out.images, prunable.base, CPU), held_out).top1
    result: dict[str, object] = {
        "probe_best": max(probes.values()),
        "probe_mean": round(float(np.mean(list(probes.values()))), 2),
    }
    only = {n: top1 for n, top1 in probes.items() if zoo.info(n).kind == "specialist"}
    voted: dict[tuple[str, ...], float] = {}
    for (size, kind), mine in found.items():
        order = sorted(mine, key=lambda n: (-mine[n], n))
        specialists = tuple(n for n in order if zoo.info(n).kind == "specialist")[:NEAREST]
        if specialists not in voted:
            voted[specialists] = assembled(zoo, prunable, specialists, task, fitting, held_out)
        plain = found[size, "leep"]
        first = sorted(plain, key=lambda n: (-plain[n], n))[:NEAREST]
        result[f"{size}/{kind}"] = {
            "nearest": round(mine[order[0]], 4),
            "nearest_specialist": round(mine[specialists[0]], 4),
            "spearman": round(rank_correlation(mine, probes), 4),
            "spearman_specialists": round(rank_correlation(mine, only), 4),
            "generalists_first": sum(zoo.info(n).kind == "generalist" for n in order[:4]),
            "same_nearest": len(set(first) & set(order[:NEAREST])),
            "probe_first": round(probes[order[0]], 2),
            "probe_nearest": round(float(np.mean([probes[n] for n in order[:NEAREST]])), 2),
            "voted": round(voted[specialists], 2),
        }
    return result


def rank_correlation(scores: dict[str, float], probes: dict[str, float]) -> float:
    """Return Spearman's correlation of a score with the probe's accuracy over the members that were probed."""
    return float(np.asarray(spearmanr([scores[n] for n in probes], list(probes.values())))[0])


def assembled(
    zoo: Zoo, prunable: PrunableModel, names: tuple[str, ...], task: Task, train: ImageSet, test: ImageSet
) -> float:
    """Return the top-1 of the network that some members vote for, before any training step."""
    config = VoteConfig(voters="specialist")
    counts = target_counts(prunable.table, config.keep, config.channel_multiple)
    plan, voters = vote(zoo, prunable, [Neighbour(zoo.info(n), 0.0) for n in names], config, counts, 0)
    model = assemble(prunable, plan, voters, task, train, device=CPU)
    return accuracy(predict(model, test.images, prunable.base, CPU), test).top1


def noise() -> list[dict[str, object]]:
    """Return what members score whose logits are noise, above chance, on average over draws."""
    rows = []
    for each in (5, 51):
        labels = torch.arange(WAYS).repeat_interleave(each)
        for classes in (5, 100, 1000):
            draw = torch_rng(0, f"noise {each} {classes}")
            thetas = [
                (SHARPNESS * torch.randn(len(labels), classes, generator=draw, dtype=torch.float64)).softmax(1)
                for _ in range(DRAWS)
            ]
            above = {
                name: round(float(np.mean([kind(t, labels) for t in thetas])) + math.log(WAYS), 3)
                for name, kind in SCORES.items()
            }
            rows.append({"images": len(labels), "source_classes": classes, "above_chance": above})
    return rows


def main(argv: Sequence[str]) -> None:
    """Measure and append the records that are missing."""
    script = Script("leep", __doc__, "data", "zoo", "tasks")
    script.add("--few", type=int, default=5, help="images a class")
    script.add("--scores", action="store_true", help="only what the members score")
    args = script.parse(argv)
    done, zoo, prunable = script.done(), script.zoo, script.prunable
    about: dict[str, object] = {"kind": "noise", "ways": WAYS, "sharpness": SHARPNESS, "draws": DRAWS}
    if about not in done:
        script.record(about, {"rows": noise()})
    for task in script.tasks():
        about = {
            "kind": "scores" if args.scores else "task", "task": task.id, "classes": list(task.names),
            "data": script.source.name, "zoo": zoo.name, "base_sha256": zoo.base.sha256, "few": args.few,
            "specialists": SPECIALISTS,
        }  # fmt: skip
        if about in done:
            continue
        train, test = (script.source.load(task.names, split, zoo.base.input_size) for split in ("train", "test"))
        found = score(zoo, prunable, task, train, args.few)
        script.record(about, summary(zoo, found) if args.scores else compare(zoo, prunable, task, train, test, found))
