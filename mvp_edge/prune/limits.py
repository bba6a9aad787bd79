"""What a budget allows, what a delivered file uses of it, and what is said of the two."""

from __future__ import annotations

from collections.abc import Mapping

from mvp_edge.config import Budget, PruneConfig
from mvp_edge.report.figures import limited
from mvp_edge.report.record import LimitRecord

UNDER = 0.9  # of a limit: below this the report warns


def limits_of(budget: Budget | None, figures: Mapping[str, float]) -> dict[str, LimitRecord] | None:
    """Return each limit with the achieved figure; None without a budget."""
    if budget is None:
        return None
    return {k: LimitRecord(limit=v, achieved=round(figures[k], 4)) for k, v in budget.given.items()}


def missed(budget: Budget | None, figures: Mapping[str, float], clock: str) -> list[str]:
    """Return a warning for each limit that a figure exceeds; that of the latency names the clock it was read from."""
    how = {"latency_ms": f" (median {clock} time)"}
    why = {"latency_ms": "; other programs may have slowed the measurement"}
    return [
        f"the model has {limited(name, figures[name])}{how.get(name, '')}: "
        f"the budget of {limited(name, limit)} is missed by {100 * (figures[name] / limit - 1):.2g} %"
        f"{why.get(name, '')}"
        for name, limit in (budget.given if budget else {}).items()
        if figures[name] > limit
    ]


def unused(config: PruneConfig, limits: Mapping[str, LimitRecord] | None, achieved_keep: float) -> list[str]:
    """Return a warning if a budget is far from used up, unless the model has all units (`achieved_keep` is 1)."""
    if not limits or achieved_keep == 1 or max(v.achieved / v.limit for v in limits.values()) >= UNDER:
        return []
    why = "no larger network that fits was found"
    if config.data is None:
        why = "without images a member is delivered as it is; --data DIR makes networks of sizes between them"
    return [f"the budget is not used up: {why}"]
