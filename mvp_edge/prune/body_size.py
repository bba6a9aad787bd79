"""Which ready-made body a class list gets: the smallest that is good enough, or the best within a budget."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mvp_edge.config import PruneConfig
from mvp_edge.core.errors import BudgetError
from mvp_edge.prune.expected import Expected, Request, expectations
from mvp_edge.prune.write import open_body, threshold_of, write_model
from mvp_edge.report.figures import enough, limited
from mvp_edge.timing.latency import Contender, time_in_turns
from mvp_edge.zoo.bodies import Body, Features

FEW = 1000  # multiply-adds or parameters: nobody means so few
ROUNDS, RUNS, PATIENCE_S = 6, 5, 1.0  # of a measurement: the base takes tens of milliseconds a call


@dataclass(frozen=True)
class Delivery:
    """What would be delivered of a body.

    Attributes:
        head: Returns multiply-adds and parameters of its head.
        write: Writes its file.
    """

    head: Callable[[Body], tuple[int, int]]
    write: Callable[[Body, Path], object]


def choose(request: Request, config: PruneConfig, delivery: Delivery) -> tuple[Body, Expected]:
    """Return the body that a run delivers.

    Under a budget it is the one of which most is expected among those within all limits; else the one with the fewest
    multiply-adds of which no more than `max_drop` points less is expected than of the base at its own pixels. Where
    nothing is known of accuracy, it is the one with the most multiply-adds.

    Raises:
        BudgetError: none is within the limits; the message tells how near the nearest comes.
    """
    if config.budget is None:
        good = [pair for pair in request.expected if (drop := pair[1].drop) is not None and drop <= config.max_drop]
        return good[-1] if good else request.expected[0]
    limits, offered = config.budget.given, list(request.expected)
    if "size_kib" in limits and config.data is None:
        small = [f for f in request.zoo.forms if f.arithmetic == "fp32"]
        offered += expectations(request.zoo, request.resolution, small) if small else []
    excesses = list[tuple[float, Body, dict[str, float]]]()
    for body, expected in best_first(offered):
        costs = costs_of(body, limits, delivery)
        excess = max(cost / limits[name] for name, cost in costs.items())
        if excess <= 1:
            return body, expected
        excesses.append((excess, body, costs))
    _, nearest, costs = min(excesses, key=lambda e: e[0])
    missed = [
        f"{limited(name, cost)} where {limited(name, limits[name])} are allowed"
        + (" (for millions write M behind the number)" if name in ("macs", "params") and limits[name] < FEW else "")
        for name, cost in costs.items()
        if cost > limits[name]
    ]
    allow = " ".join(enough(name, cost) for name, cost in costs.items() if cost > limits[name])
    small = "size_kib" in costs and config.data is not None and not request.resolution.unknown
    small &= any(f.arithmetic == "fp32" for f in request.zoo.forms)
    raise BudgetError(
        f"no network of {request.zoo.name} meets the budget; the nearest, {nearest.id}, has "
        f"{'; '.join(missed)}. Type {allow}"
        + (", or leave --data out: there are smaller files for names alone" if small else "")
    )


def best_first(offered: Collection[tuple[Body, Expected]]) -> list[tuple[Body, Expected]]:
    """Return bodies by what is expected of them, the cheaper first of equals; as they come where nothing is known."""
    if any(expected.top1 is None for _, expected in offered):
        return list(offered)
    return sorted(offered, key=lambda pair: (-(pair[1].top1 or 0.0), pair[0].macs))


def costs_of(body: Body, limits: Collection[str], delivery: Delivery) -> dict[str, float]:
    """Return what a delivered body costs, by the names of limits; a file is written only if one of them is on it."""
    macs, params = delivery.head(body)
    found: dict[str, float] = {"macs": body.macs + macs, "params": body.params + params}
    if not {"size_kib", "latency_ms"}.isdisjoint(limits):
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / "trial.onnx"
            delivery.write(body, file)
            found["size_kib"] = file.stat().st_size / 1024
            if "latency_ms" in limits:
                (timing,) = time_in_turns([Contender(file)], ROUNDS, RUNS, budget_s=PATIENCE_S)
                found["latency_ms"] = timing.latency().median_ms
    return {name: cost for name, cost in found.items() if name in limits}


def by_names(request: Request, config: PruneConfig) -> Delivery:
    """Return what is delivered of a body without images."""

    def head(body: Body) -> tuple[int, int]:
        return head_costs(request, request.zoo.features(body), threshold_of(request, body, config) is not None)

    return Delivery(head, lambda body, file: write_model(file, open_body(request, body, config), request, config.input))


def head_costs(request: Request, features: Features, known: bool) -> tuple[int, int]:
    """Return multiply-adds and parameters of the head: rows of listed classes, and the few dimensions of the others."""
    width, listed = features.basis.shape[1], sum(len(group) for group in request.resolution.groups)
    macs, params = listed * width, listed * (width + 1)
    if known and request.split is not None and features.few is not None:
        others, few = len(request.split.unlisted), len(features.few.basis)
        macs += (few + 1) * width + few * others
        params += (few + 2) * width + (few + 1) * others + 2 * listed + few
    return macs, params
