"""Which network the photographs get: the smallest body that is good enough, or what a budget leaves of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mvp_edge.config import Budget, PruneConfig
from mvp_edge.core.errors import BudgetError
from mvp_edge.core.progress import Progress, Stage
from mvp_edge.data import DataSource, ImageSet
from mvp_edge.data.images import resize
from mvp_edge.data.splits import grouped
from mvp_edge.names.base_classes import Resolution
from mvp_edge.prune.body_size import choose, costs_of
from mvp_edge.prune.cut import cut
from mvp_edge.prune.expected import Request, expectations
from mvp_edge.prune.heads import Network, graph_of, parts_of, prior_of, seen
from mvp_edge.prune.learned_file import delivery_of
from mvp_edge.training.frozen_head import Kind, best_top1, left_out_logits
from mvp_edge.training.interpolation import rest_of
from mvp_edge.zoo.bodies import Body, BodyZoo

TRIED = 200  # photographs that choose a network, at most, equally many of each class
TRIED_EACH = 5  # of a class where there are more than `TRIED` / 5 classes
FILLED = 0.9  # of a budget
COMPARED = 3  # fifths of them, on which a network that was cut is compared with one that was not
JUDGING = 60  # of them, at least: with fewer the estimates of the names decide
CUTTING = 100  # photographs in all, at least, for a network to be cut: a fifth judges alone what is learned later

TOO_FEW = (
    f"the budget is not used up: with {CUTTING} photographs or more, spread over the classes, a larger network, cut to "
    "it, is tried, too"
)


def choose_network(
    config: PruneConfig, zoo: BodyZoo, resolution: Resolution, source: DataSource, progress: Progress
) -> Network:
    """Return the network to train.

    With fewer than `JUDGING` photographs that choose, or `CUTTING` in all where there is a budget, it is the body that
    `body_size.choose` takes, by estimates; of names that the base does not know these go by how many there are.

    Args:
        config: Settings of the run.
        zoo: The bodies.
        resolution: What stands for each name.
        source: The photographs, after `splits.divided`: none that chooses is a copy of a test image.
        progress: Progress reporter.

    Raises:
        BudgetError: no network meets the budget.
        DataError: the photographs do not fit the class list, or cannot be read.
    """
    names = resolution.task.names
    each, count = max(TRIED_EACH, TRIED // len(names)), source.count(names, "train")
    some = sum(min(each, source.count([n], "train")) for n in names)

    def some_at(pixels: int) -> ImageSet:
        with progress.stage("Reading some images", some) as stage:
            return grouped(source.load(names, "train", (pixels, pixels), stage.advance, each), source)

    if config.budget is not None:
        enough = some_at if count >= CUTTING and some >= JUDGING else None
        return within_budget(config, config.budget, zoo, resolution, enough, progress)
    largest = max(b.pixels for b in zoo.bodies)
    if some >= JUDGING and (found := good_enough(config, zoo, resolution, some_at(largest), progress)):
        return found
    return Network.of(zoo, choose(request_of(zoo, resolution), config, delivery_of(zoo, resolution, config))[0])


def request_of(zoo: BodyZoo, resolution: Resolution) -> Request:
    """Return what each body of a zoo is expected to do for some names."""
    return Request(zoo, resolution, None, expectations(zoo, resolution))


def good_enough(
    config: PruneConfig, zoo: BodyZoo, resolution: Resolution, some: ImageSet, progress: Progress
) -> Network | None:
    """Return the smallest body that is good enough for some photographs; None if none can be left out.

    A head on its features is right on photographs left out at most `max_drop` points less often than on the features of
    the best body. Over 60 lists each of Caltech-101 and of Clothing, on other training photographs, that is 0.6 and 0.9
    points below the base; allowing for a standard error besides would halve the multiply-adds, and lose 1.1 and 2.2
    points.
    """
    if not (parts := parts_of(some, config.seed)):
        return None
    with progress.stage("Choosing a size", len(some) * len(zoo.bodies)) as stage:
        tried = [Network.of(zoo, body) for body in zoo.bodies]
        scores = [scored(zoo, network, resolution, some, parts, stage) for network in tried]
    drops = [round(max(scores) - score, 6) for score in scores]
    good = [network for network, drop in zip(tried, drops, strict=True) if drop <= config.max_drop]
    return min(good, key=lambda network: network.body.macs)


def within_budget(
    config: PruneConfig, budget: Budget, zoo: BodyZoo, resolution: Resolution,
    some_at: Callable[[int], ImageSet] | None, progress: Progress,
) -> Network:  # fmt: skip
    """Return the next larger body cut to the budget, if it does better on photographs left out than the best within it.

    The next larger one is that of the fewest multiply-adds which does not meet the budget, whatever it limits. It is
    not cut if the best within the budget nearly fills it: then there is little to gain for the seconds that it takes.

    Args:
        config: Settings of the run.
        budget: Its limits.
        zoo: Of the bodies.
        resolution: What stands for each name.
        some_at: Reads some photographs at so many pixels; None if there are too few to cut on.
        progress: Progress reporter.

    Raises:
        BudgetError: no network meets the budget.
    """
    limits = budget.given

    def used(network: Network) -> float:
        costs = costs_of(network.body, limits, delivery_of(zoo, resolution, config, network.weights))
        return max(cost / limits[name] for name, cost in costs.items())

    def part_of(body: Body, some: ImageSet) -> Network | None:
        with progress.stage("Cutting to the budget"):
            return cut(zoo, body, some.images, lambda network: used(network) <= 1)

    try:
        ready = Network.of(zoo, choose(request_of(zoo, resolution), config, delivery_of(zoo, resolution, config))[0])
    except BudgetError as error:
        if some_at is None:
            more = f"or give {CUTTING} photographs, spread over the classes: then a network is cut to the budget"
            raise BudgetError(f"{error}, {more}") from error
        smallest = zoo.bodies[-1]
        if (part := part_of(smallest, some_at(smallest.pixels))) is None:
            raise BudgetError(f"{error}; nor does what can be cut from {smallest.id} meet the budget") from error
        return part
    if used(ready) > FILLED:
        return ready
    larger = (body for body in reversed(zoo.bodies) if body.macs > ready.body.macs)
    beyond = next((body for body in larger if used(Network.of(zoo, body)) > 1), None)
    if beyond is None:
        return ready
    if some_at is None:
        return replace(ready, note=TOO_FEW)
    some = some_at(beyond.pixels)
    parts = parts_of(some, config.seed)[:COMPARED]
    part = part_of(beyond, some) if parts else None
    if part is None:
        return ready
    with progress.stage("Comparing networks", (1 + len(parts)) * len(some)) as stage:
        scores = [scored(zoo, network, resolution, some, parts, stage) for network in (ready, part)]
    if scores[1] > scores[0]:
        return part
    note = (
        f"the budget is not used up: {beyond.id}, cut to it, names {scores[1]:.1f} % of the images left out correctly, "
        f"and {ready.body.id} {scores[0]:.1f} %"
    )
    return replace(ready, note=note)


def scored(
    zoo: BodyZoo, network: Network, resolution: Resolution, some: ImageSet, parts: Sequence[Tensor], stage: Stage
) -> float:
    """Return the percent of some photographs, left out in parts, that a head on a network's features names rightly.

    What was cut is cut without the part, too.
    """
    pixels, labels = resize(some.images, (network.body.pixels, network.body.pixels)), some.labels
    rests = [rest_of(part, len(some)) for part in parts]
    if network.cut_on is None:
        looks = [_look(zoo, network, resolution, pixels, stage)] * len(parts)
    else:
        looks = [_look(zoo, network.cut_on(pixels[rest]), resolution, pixels, stage) for rest in rests]
    tried = dict[Kind, Tensor]()
    for (features, prior), part, rest in zip(looks, parts, rests, strict=True):
        for kind, logits in left_out_logits(features, labels, prior, [part], [rest], resolution.any_known).items():
            tried.setdefault(kind, logits)[part] = logits[part]
    return best_top1(tried, labels, torch.cat(list(parts)))


def _look(
    zoo: BodyZoo, network: Network, resolution: Resolution, pixels: Tensor, stage: Stage
) -> tuple[Tensor, Tensor]:
    """Return the features of a network, and what names alone say."""
    state = {k: torch.from_numpy(v) for k, v in network.weights.items()}
    features, logits = seen(graph_of(zoo, network.body, state), pixels, stage)
    return features, prior_of(logits, resolution)
