"""Iterative filter pruning (Algorithm 2), slicing physically at each pruning event."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
from torch import Tensor, nn

from mvp_edge.config import FitConfig, Importance, PruneSchedule
from mvp_edge.core.progress import Stage
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.plan import KeepPlan, full_plan
from mvp_edge.pruners.units import cut, highest, mean_of_normalised, positions_in, target_counts
from mvp_edge.training.loop import BatchSource, fit
from mvp_edge.training.optimizers import make_optimizer


class ImportanceMeter:
    """Accumulates the importance of each unit from what the layers that consume it see during training.

    A consumer's input is the activation after norm and non-linearity, whatever lies between. Scores of a group are
    the mean over its consumers, each normalised by its own mean.
    """

    def __init__(self, model: nn.Module, table: GroupTable, importance: Importance) -> None:
        self._model, self._table, self._importance = model, table, importance
        self._sums: dict[tuple[str, str], Tensor] = {}
        self._hooks = ExitStack()
        for group in table.groups:
            for consumer in group.consumers:
                layer = model.get_submodule(consumer.module)
                handle = layer.register_forward_pre_hook(self._hook((group.name, consumer.module)))
                self._hooks.callback(handle.remove)

    def _hook(self, key: tuple[str, str]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(value: Tensor) -> None:
            self._sums[key] = self._sums[key] + value if key in self._sums else value

        def activation(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            if layer.training:
                x = args[0].detach()
                add(_per_channel(layer, x.abs()).float())

        def taylor(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
            if layer.training and args[0].requires_grad:
                x = args[0]
                # The gradient of the loss with respect to a gate of 1 on each channel is the sum of x * dL/dx.
                x.register_hook(lambda g: add(_per_channel(layer, x.detach().float() * g.float()).square()))

        return taylor if self._importance == "taylor" else activation

    def scores(self, plan: KeepPlan) -> dict[str, np.ndarray]:
        """Return the scores `(kept,)` of the units that `plan` holds, since the last reset."""
        result = {}
        for group in self._table.groups:
            kept = plan[group.name]
            values = [
                self._sums[group.name, c.module].cpu().double().numpy()[positions_in(c, kept)].mean(1)
                for c in group.consumers
            ]
            result[group.name] = mean_of_normalised(values, len(kept))
        return result

    def reset(self) -> None:
        """Forget what was accumulated; layers have new widths after slicing."""
        self._sums.clear()

    def close(self) -> None:
        """Remove the hooks."""
        self._hooks.close()


def _per_channel(layer: nn.Module, x: Tensor) -> Tensor:
    return x.mean((0, 2, 3)) if isinstance(layer, nn.Conv2d) else x.flatten(0, -2).mean(0)


def iterative_prune(
    model: nn.Module,
    table: GroupTable,
    source: BatchSource,
    schedule: PruneSchedule,
    config: FitConfig,
    *,
    rng: np.random.Generator,
    start: KeepPlan | None = None,
    stage: Stage | None = None,
) -> KeepPlan:
    """Prune and fine-tune a copy of the base model, or of a part of it, in place, and return what was kept.

    Every `every` steps each group loses the fraction `drop` of its units that scored lowest since the last event,
    until it has reached its target, at the latest after the last step. The optimiser's momentum is sliced along.

    Args:
        model: The network.
        table: Groups of the base model.
        source: Where batches come from.
        schedule: What is dropped when.
        config: How it is trained meanwhile.
        rng: Decides for random importance.
        start: What `model` keeps of the base model; everything if not given.
        stage: Progress.

    References:
        Algorithm 2.
    """
    every = schedule.every or max(1, config.iterations // 100)
    wanted = target_counts(table, schedule.keep, schedule.channel_multiple)
    optimizer = make_optimizer(model, config)
    meter = ImportanceMeter(model, table, schedule.importance)
    plan = start or full_plan(table.widths)
    counts = {name: min(wanted[name], have) for name, have in plan.counts.items()}

    def event(step: int) -> None:
        if step > 0 and step % every == 0 and plan.counts != counts:
            prune(1 - schedule.drop)

    def prune(share: float) -> None:
        nonlocal plan
        if schedule.importance == "random":
            scores = {g.name: rng.random(len(g.kept)) for g in plan.groups}
        else:
            scores = meter.scores(plan)
        left = {name: max(counts[name], math.floor(have * share)) for name, have in plan.counts.items()}
        plan = cut(model, table, plan, {name: highest(scores[name], n) for name, n in left.items()}, optimizer)
        meter.reset()
        if plan.counts == counts:
            meter.close()

    try:
        fit(model, source, config, optimizer=optimizer, before_step=event, stage=stage)
        if plan.counts != counts and config.iterations > 0:
            prune(0.0)  # too few iterations for all events: the last one takes the rest
    finally:
        meter.close()
    return plan
