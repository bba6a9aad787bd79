"""Which ready-made body a class list gets: the smallest that is good enough, or the best within a budget."""

from __future__ import annotations

from pathlib import Path

from mvp_edge.config import PruneConfig
from mvp_edge.core.errors import BudgetError
from mvp_edge.prune.expected import Expected, Request, expectations
from mvp_edge.prune.write import open_body, threshold_of, write_model
from mvp_edge.report.figures import limited
from mvp_edge.timing.latency import Contender, time_in_turns
from mvp_edge.zoo.bodies import Body, Features

ROUNDS, RUNS, PATIENCE_S = 6, 5, 1.0  # of a measurement: the base takes tens of milliseconds a call
FILE_BYTES = 20 * 1024  # of a file beside its parameters
UNPACKING_BYTES = 60 * 1024  # of what unpacks weights that are stored in few bytes


def choose(request: Request, config: PruneConfig, scratch: Path) -> tuple[Body, Expected]:
    """Return the body that a run delivers.

    Under a budget it is the one of which most is expected among those within all limits; else the one with the fewest
    multiply-adds of which no more than `max_drop` points less is expected than of the base at its own pixels. Where
    nothing is known of accuracy, it is the one with the most multiply-adds.

    Raises:
        BudgetError: none is within the limits; the message tells how near the smallest comes.
    """
    if config.budget is None:
        good = [pair for pair in request.expected if (drop := pair[1].drop) is not None and drop <= config.max_drop]
        return good[-1] if good else request.expected[0]
    limits, offered = config.budget.given, list(request.expected)
    if "size_kib" in limits and config.data is None:
        small = [f for f in request.zoo.forms if f.arithmetic == "fp32"]
        offered += expectations(request.zoo, request.resolution, small) if small else []
    costs = [cost_of(request, body, config, scratch) for body, _ in offered]
    within = [
        pair for pair, cost in zip(offered, costs, strict=True)
        if all(cost[name] <= most for name, most in limits.items())
    ]  # fmt: skip
    if not within:
        least = costs[-1]
        missed = [
            f"{limited(name, least[name])} where {limited(name, most)} are allowed"
            for name, most in limits.items()
            if least[name] > most
        ]
        raise BudgetError(
            f"no network of {request.zoo.name} meets the budget; the smallest, {offered[-1][0].id}, has "
            f"{'; '.join(missed)}. Allow a little more than it has"
        )
    if any(e.top1 is None for _, e in within):
        return within[0]
    return max(within, key=lambda pair: (pair[1].top1 or 0.0, -pair[0].macs))


def cost_of(request: Request, body: Body, config: PruneConfig, scratch: Path) -> dict[str, float]:
    """Return what a body costs with the head of the class list, by the names of limits that are asked for."""
    assert config.budget is not None
    macs, params = head_costs(request, request.zoo.features(body), threshold_of(request, body, config) is not None)
    found: dict[str, float] = {"macs": body.macs + macs, "params": body.params + params}
    stored = 4 * found["params"]
    if body.weight_bytes:
        stored = body.weight_bytes + params + 16 * len(request.zoo.classes.classes) + UNPACKING_BYTES
    found["size_kib"] = (stored + FILE_BYTES) / 1024
    if config.budget.latency_ms is not None:
        file = scratch / "trial.onnx"
        write_model(file, open_body(request, body, config), request, config.input)
        (timing,) = time_in_turns([Contender(file)], ROUNDS, RUNS, budget_s=PATIENCE_S)
        found["latency_ms"] = timing.latency().median_ms
        file.unlink()
    return found


def head_costs(request: Request, features: Features, known: bool) -> tuple[int, int]:
    """Return multiply-adds and parameters of the head: rows of listed classes, and the few dimensions of the others."""
    width = features.basis.shape[1]
    listed = sum(max(1, len(group)) for group in request.resolution.groups)  # an unknown name has a row, too
    macs, params = listed * width, listed * (width + 1)
    if known and request.split is not None and features.few is not None:
        others, few = len(request.split.unlisted), len(features.few.basis)
        macs += (few + 1) * width + few * others
        params += (few + 2) * width + (few + 1) * others + 2 * listed + few
    return macs, params
