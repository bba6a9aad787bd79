"""How many units of each group a run keeps: those of its ratio, or as many as a budget allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mvp_edge.budget.costs import Achieved, Costs, costs_of
from mvp_edge.budget.latency import PROBES, LatencyProbe, fit_latency, probe_counts, raise_where_free
from mvp_edge.budget.search import Bound, Groups, Limit, Rule, Utility, fit_budget, search
from mvp_edge.config import Budget, InputFormat, Method, PruneConfig, VoteConfig
from mvp_edge.core.errors import BudgetError
from mvp_edge.core.progress import Progress
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.pruners import base_importance, target_counts
from mvp_edge.voting.meta_vote import count_votes
from mvp_edge.voting.neighbours import Neighbour, knowing, ready_made, vote_weights

BUDGET_MULTIPLE = 8  # of channels that a search climbs in under `--channel-multiple auto`, before counts are raised
HEADROOM_BYTES = 1024  # for the metadata of a delivered file, which a weighed one does not have
LATENCY_AIM = 0.98  # the delivered file is measured anew, on a machine that may be busier then
TIE_BREAK = 1e-3  # weight of the base's importance against a whole vote
RULES: dict[Method, Rule] = {"mvp": "uniform", "smsp": "global"}
UNITS = {"latency_ms": "ms", "macs": "MACs", "params": "parameters", "size_bytes": "KiB"}
FLAGS = {
    "latency_ms": "--max-latency-ms",
    "macs": "--max-macs",
    "params": "--max-params",
    "size_bytes": "--max-size-kib",
}


@dataclass(frozen=True)
class Sizing:
    """How large the model is.

    Attributes:
        requested: Units to keep by group, before counts were raised where that costs no time.
        counts: Units to keep by group.
        member: The member that is delivered as it is, without images.
    """

    requested: Mapping[str, int]
    counts: Mapping[str, int]
    member: Neighbour | None = None


@dataclass(frozen=True)
class Votes:
    """The voters' plans with their weights, and the initial plans of a search."""

    plans: Sequence[KeepPlan]
    weights: Sequence[float]
    initial: Sequence[KeepPlan] = ()


def ratio_decides(config: PruneConfig) -> bool:
    """Return whether the ratio alone determines how many units are kept, whoever votes."""
    return config.budget is None and config.vote.method == "mvp" and config.vote.channel_multiple != "auto"


def ready_made_size(
    prunable: PrunableModel, ranked: Sequence[Neighbour], task: Task, config: PruneConfig, progress: Progress
) -> Sizing:
    """Return the size of the largest generalist within the budget or the ratio, which is delivered as it is.

    Raises:
        BudgetError: no member meets the budget.
        ZooError: no member knows the classes, or none is small enough for the ratio.
    """
    able = knowing(ranked, task)
    if config.budget is None or not able:
        member = ready_made(ranked, task, config.vote.keep)
    else:
        member = _largest_within(prunable, config.budget, able, task.names, progress, config.input)
    return Sizing(member.info.plan.counts, member.info.plan.counts, member)


def trained_size(
    prunable: PrunableModel, ranked: Sequence[Neighbour], task: Task, config: PruneConfig, progress: Progress
) -> Sizing:
    """Return the size of a model that is trained: of the ratio, or the largest that the votes find within the budget.

    Under a budget the search continues from the largest generalist that fits.

    Raises:
        BudgetError: no sub-network meets the budget.
    """
    voters = ranked[: config.vote.neighbours]
    grows = config.vote.voters in ("auto", "generalist") and config.vote.method == "mvp"
    initial = [n.info.plan for n in knowing(ranked, task)] if grows else []
    votes = Votes([n.info.plan for n in voters], vote_weights(voters, config.vote), initial)
    return choose_counts(prunable, config, votes, task.names, progress)


def choose_counts(
    prunable: PrunableModel, config: PruneConfig, votes: Votes, labels: Sequence[str], progress: Progress
) -> Sizing:
    """Return how many units of each group are kept.

    Args:
        prunable: The base model, on the CPU.
        config: Its ratio or budget, method, channel multiple and input format.
        votes: Under a budget the search continues from the largest initial plan that fits; `smsp` ranks units by the
            plans.
        labels: Class names of the model.
        progress: Progress reporter.

    Raises:
        BudgetError: no sub-network meets the budget.
    """
    if ratio_decides(config):
        counts = target_counts(prunable.table, config.vote.keep, config.vote.channel_multiple)
        return Sizing(counts, counts)
    sizer = _Sizer(prunable, config.vote, votes, labels, progress, config.input)
    return sizer.by_ratio() if config.budget is None else sizer.by_budget(config.budget)


def _largest_within(
    prunable: PrunableModel,
    budget: Budget,
    members: Sequence[Neighbour],
    labels: Sequence[str],
    progress: Progress,
    kind: InputFormat,
) -> Neighbour:
    """Return the first of some members, largest first, that meets a budget as it is.

    Raises:
        BudgetError: none does; the message shows how near the smallest comes.
    """
    costs = costs_of(prunable.model, prunable.table, prunable.base.input_size, prunable.head, len(labels))
    probe = LatencyProbe(prunable.base, prunable.model, prunable.table, costs, labels, kind)
    bounds = [Bound(*_figure(name, most), lambda c: c) for name, most in budget.given.items()]
    with progress.stage("Fitting the budget", len(members)) as stage:
        for member in members:
            found = probe.achieved(costs.counts(member.info.plan.counts), _figures(bounds))
            if all(bound.used(found) <= 1 for bound in bounds):
                return member
            stage.advance()
    raise BudgetError(
        "no member of the zoo that works without images meets the budget: "
        f"{'; '.join(_missed(bounds, found, budget))}. Allow a little more than that, or add images with "
        "--data DIR for networks of other sizes"
    )


def _figure(name: str, most: float) -> tuple[str, float]:
    """Return the figure that a limit is on, and its bound."""
    return ("size_bytes", max(1.0, most * 1024 - HEADROOM_BYTES)) if name == "size_kib" else (name, most)


def _figures(bounds: Sequence[Bound]) -> set[str]:
    return {bound.figure for bound in bounds}


def _missed(bounds: Sequence[Bound], least: Achieved, budget: Budget) -> list[str]:
    """Return how far a network is from each bound that it exceeds; headroom counts as part of the file."""
    room = {"size_bytes": HEADROOM_BYTES}
    family = {"size_bytes" if name == "size_kib" else name for name in budget.typed}
    limits = {b.figure: "--budgets has" if b.figure in family else f"{FLAGS[b.figure]} is" for b in bounds}
    return [
        f"the smallest has {shown(b.figure, getattr(least, b.figure) + room.get(b.figure, 0))}, and {limits[b.figure]} "
        f"{shown(b.figure, b.most + room.get(b.figure, 0))}"
        for b in bounds
        if b.used(least) > 1
    ]


class _Sizer:
    def __init__(
        self,
        prunable: PrunableModel,
        config: VoteConfig,
        votes: Votes,
        labels: Sequence[str],
        progress: Progress,
        kind: InputFormat,
    ) -> None:
        self.prunable, self.config, self.votes, self.progress = prunable, config, votes, progress
        table = prunable.table
        self.costs: Costs = costs_of(prunable.model, table, prunable.base.input_size, prunable.head, len(labels))
        self.probe = LatencyProbe(prunable.base, prunable.model, table, self.costs, labels, kind)
        self.unit_channels = np.array([g.unit_channels for g in table.groups])
        self.rule: Rule = RULES[config.method]

    def by_ratio(self) -> Sizing:
        keep = self.config.keep
        channel_multiple = 1 if self.config.channel_multiple == "auto" else self.config.channel_multiple
        if self.config.method == "mvp":
            counts = self.costs.counts(target_counts(self.prunable.table, keep, channel_multiple))
        else:
            groups = Groups.of(self.costs.widths, self.unit_channels, channel_multiple)
            found = search(
                groups, self.utility(), [Limit(lambda c: c.sum(-1), keep * self.costs.widths.sum())], self.rule
            )
            counts = groups.least if found is None else found
        return self.filled(counts, [])

    def by_budget(self, budget: Budget) -> Sizing:
        channel_multiple = BUDGET_MULTIPLE if self.config.channel_multiple == "auto" else self.config.channel_multiple
        groups = Groups.of(self.costs.widths, self.unit_channels, channel_multiple)
        bounds = self.bounds(budget, groups)
        initial = [self.costs.counts(plan.counts) for plan in self.votes.initial]
        with self.progress.stage("Fitting the budget") as stage:

            def measure(counts: np.ndarray) -> Achieved:
                stage.advance()
                return self.probe.achieved(counts, _figures(bounds))

            fitted = fit_budget(bounds, groups, self.utility(), measure, rule=self.rule, initial=initial)
            if fitted is None:
                raise self.out_of_reach(bounds, groups, channel_multiple, budget)
        return self.filled(fitted.counts, bounds)

    def bounds(self, budget: Budget, groups: Groups) -> list[Bound]:
        bounds = []
        for name, most in budget.given.items():
            if name == "latency_ms":
                rows = probe_counts(self.costs, self.unit_channels)
                with self.progress.stage("Timing this machine", PROBES) as stage:
                    model = fit_latency(self.costs, rows, self.probe.times_ms(rows, stage))
                bounds.append(Bound(name, most, model, LATENCY_AIM))
            elif name == "size_kib":
                least = self.probe.achieved(groups.least, {"size_bytes"}).size_bytes
                around = least - float(self.costs.stored(groups.least))
                bounds.append(Bound(*_figure(name, most), lambda c, a=around: self.costs.stored(c) + a))
            else:
                bounds.append(Bound(name, most, getattr(self.costs, name)))
        return bounds

    def utility(self) -> Utility:
        """Return the utility of units: their share of the votes, and a little for the base's importance."""
        importance = base_importance(self.prunable.model, self.prunable.table)
        votes = count_votes(self.votes.plans, self.votes.weights)
        total = sum(self.votes.weights)
        return Utility.of(
            [votes[n] / total + TIE_BREAK * importance[n] / importance[n].max().clip(1e-12) for n in self.costs.names]
        )

    def filled(self, counts: np.ndarray, bounds: Sequence[Bound]) -> Sizing:
        requested = self.costs.by_name(counts)
        if self.config.channel_multiple != "auto":
            return Sizing(requested, requested)
        with self.progress.stage("Raising counts that cost no time") as stage:

            def time_ms(some: np.ndarray) -> float:
                stage.advance()
                return float(self.probe.times_ms(some[None])[0])

            def allowed(some: np.ndarray) -> bool:
                achieved = self.probe.achieved(some, _figures(bounds)) if bounds else None
                return achieved is None or all(b.used(achieved) <= 1 for b in bounds)

            full = raise_where_free(counts, self.costs.widths, self.unit_channels, time_ms, allowed)
        return Sizing(requested, self.costs.by_name(full))

    def out_of_reach(
        self, bounds: Sequence[Bound], groups: Groups, channel_multiple: int, budget: Budget
    ) -> BudgetError:
        """Return an error that shows how near the smallest network comes."""
        least = self.probe.achieved(groups.least, _figures(bounds))
        finer = "" if channel_multiple == 1 else ", or --channel-multiple 1 for a smaller one"
        advice = f"Allow a little more than that{finer}{self._timed(bounds, least)}"
        return BudgetError(
            f"no sub-network of {self.prunable.base.name} in multiples of {channel_multiple} channels meets the "
            f"budget: {'; '.join(_missed(bounds, least, budget))}. {advice}"
        )

    def _timed(self, bounds: Sequence[Bound], least: Achieved) -> str:
        """Return advice on timing again, where the time was what exceeded the budget."""
        late = any(b.figure == "latency_ms" and b.used(least) > 1 for b in bounds)
        return f". If this computer was busy during the timing, remove {self.probe.file} to time again" if late else ""


def shown(figure: str, value: float) -> str:
    """Return a figure with its unit."""
    value = value / 1024 if figure == "size_bytes" else value
    return f"{value:,.0f} {UNITS[figure]}" if value >= 1000 else f"{value:.3g} {UNITS[figure]}"
