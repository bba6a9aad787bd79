"""Automatic head and node pruning (Algorithm 3): a learnable score on every unit, slicing physically as units fall."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.config import FitConfig, ScoreSchedule
from mvp_edge.core.progress import Stage
from mvp_edge.models.groups import Group, GroupTable
from mvp_edge.models.plan import KeepPlan, full_plan
from mvp_edge.models.slicing import exchange
from mvp_edge.pruners.units import cut, highest, positions_in
from mvp_edge.training.loop import BatchSource, fit
from mvp_edge.training.optimizers import SECOND_MOMENT, ChainedOptimizer, make_optimizer


class UnitScores:
    """A learnable factor, at first 1, on what each unit of some groups hands to the layers that consume it.

    A head's score multiplies its channels of `proj`'s input, a node's its channel of `fc2`'s. The gradient of the L1
    term joins that of the loss where it arrives.
    """

    def __init__(
        self, model: nn.Module, table: GroupTable, plan: KeepPlan, names: Iterable[str], sparsity: float
    ) -> None:
        """Put scores on the units that `model`, sliced to `plan`, has of the groups called `names`.

        Args:
            model: The network.
            table: Groups of the base model.
            plan: What the network keeps of it.
            names: Groups to score.
            sparsity: Weight of the scores' L1 norm in the loss.
        """
        self._model, self._sparsity = model, sparsity
        self._groups: dict[str, Group] = {g.name: g for g in table.groups if g.name in set(names)}
        self._hooks: dict[str, ExitStack] = {}
        self._index: dict[tuple[str, str], Tensor] = {}
        device = next(model.parameters()).device
        self.values = {name: self._parameter(torch.ones(len(plan[name]), device=device)) for name in self._groups}
        for name, group in self._groups.items():
            self._hooks[name] = ExitStack()
            for consumer in group.consumers:
                layer = model.get_submodule(consumer.module)
                handle = layer.register_forward_pre_hook(self._hook((name, consumer.module)))
                self._hooks[name].callback(handle.remove)
        self._reindex(plan)

    def _parameter(self, values: Tensor) -> nn.Parameter:
        parameter = nn.Parameter(values)
        parameter.register_hook(lambda gradient: gradient + self._sparsity * parameter.detach().sign())
        return parameter

    def _hook(self, key: tuple[str, str]) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def multiply(layer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            gate = self._gate(key).to(args[0].dtype)
            return (args[0] * (gate.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else gate), *args[1:])

        return multiply

    def _gate(self, key: tuple[str, str]) -> Tensor:
        """Return the factor of every channel `(C,)` of a consumer's input; 1 where it belongs to no scored unit."""
        values = self.values[key[0]]
        return torch.cat([values, values.new_ones(1)])[self._index[key]]

    def _reindex(self, plan: KeepPlan) -> None:
        for name, group in self._groups.items():
            for consumer in group.consumers:
                layer: Any = self._model.get_submodule(consumer.module)
                channels = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
                index = torch.full((channels,), len(plan[name]))
                where = torch.from_numpy(positions_in(consumer, plan[name]))
                index[where] = torch.arange(len(where))[:, None]
                self._index[name, consumer.module] = index.to(self.values[name].device)

    def magnitudes(self, name: str) -> np.ndarray:
        """Return the absolute scores `(kept,)` of a group's units."""
        return self.values[name].detach().abs().cpu().double().numpy()

    def select(self, chosen: Mapping[str, np.ndarray], plan: KeepPlan, optimizer: torch.optim.Optimizer) -> None:
        """Keep the scores of the units at `chosen[group]`, now that the network is sliced to `plan`."""
        for name, positions in chosen.items():
            old, index = self.values[name], torch.from_numpy(positions).to(self.values[name].device)
            self.values[name] = self._parameter(old.detach()[index])
            exchange(optimizer, old, self.values[name], lambda t, index=index: t[index])
        self._reindex(plan)

    @torch.no_grad()
    def fold(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """Multiply a group's scores into the weights that consume its units, and forget them: the outputs stay."""
        group = self._groups.pop(name)
        self._hooks.pop(name).close()
        for consumer in group.consumers:
            layer: Any = self._model.get_submodule(consumer.module)
            weight: Tensor = layer.weight
            gate = self._gate((name, consumer.module)).to(weight.dtype)
            if isinstance(layer, nn.Conv2d):
                # Row `o` of a grouped convolution sees the channels of its own conv group only.
                rows = gate.view(layer.groups, 1, -1).expand(-1, len(weight) // layer.groups, -1)
                weight.mul_(rows.reshape(len(weight), -1, 1, 1))
            else:
                weight.mul_(gate)
        score = self.values.pop(name)
        optimizer.state.pop(score, None)
        for part in optimizer.param_groups:
            part["params"] = [p for p in part["params"] if p is not score]

    def close(self) -> None:
        """Remove the hooks; scores that were not folded are lost."""
        for hooks in self._hooks.values():
            hooks.close()


def automatic_prune(
    model: nn.Module,
    table: GroupTable,
    source: BatchSource,
    counts: Mapping[str, int],
    schedule: ScoreSchedule,
    config: FitConfig,
    *,
    start: KeepPlan | None = None,
    stage: Stage | None = None,
) -> KeepPlan:
    """Prune a model in place to exactly `counts[group]` units and fine-tune it; return what it keeps.

    Before each step, units whose score has fallen below the threshold are cut off, the smallest first. A group that has
    reached its count is done: its scores are folded into the weights and what follows is plain fine-tuning of these.
    Counts are a group's own, as in the paper, which stops pruning layer by layer: members of a zoo then have one shape,
    and no block loses all its heads. When the iterations allotted to pruning are over, the units with the smallest
    scores go, however large these are.

    Args:
        model: The network, on the source's device.
        table: Groups of the base model.
        source: Where batches come from.
        counts: Units to keep by group, at least 1; groups that have no more keep what they have.
        schedule: Of the scores.
        config: How the weights are trained meanwhile and afterwards.
        start: What `model` keeps of the base model; everything if not given.
        stage: Progress.

    References:
        Algorithm 3. Its J, the iterations of pruning, is `schedule.share` of all here, and its K the rest.
    """
    plan = start or full_plan(table.widths)
    wanted = {name: min(counts[name], have) for name, have in plan.counts.items()}
    scores = UnitScores(model, table, plan, [n for n, c in wanted.items() if c < plan.counts[n]], schedule.sparsity)
    ratio = schedule.lr / config.lr
    scored = {"params": list(scores.values.values()), "weight_decay": 0.0, "scale": ratio}
    weights = make_optimizer(model, config)
    beta = (config.momentum, SECOND_MOMENT)
    optimizer = (
        ChainedOptimizer([weights, torch.optim.AdamW([scored], lr=schedule.lr, betas=beta)])
        if scores.values
        else weights
    )
    allotted = math.ceil(schedule.share * config.iterations)

    def event(step: int) -> None:
        if step > 0 and scores.values:
            drop_below(schedule.threshold if step < allotted else math.inf)

    def drop_below(threshold: float) -> None:
        nonlocal plan
        chosen = {}
        for name in scores.values:
            size = scores.magnitudes(name)
            n = max(wanted[name], int((size >= threshold).sum()))
            chosen[name] = np.sort(highest(size, n))
        if all(len(positions) == plan.counts[name] for name, positions in chosen.items()):
            return
        plan = cut(model, table, plan, chosen, optimizer)
        scores.select(chosen, plan, optimizer)
        for name in [n for n in scores.values if plan.counts[n] == wanted[n]]:
            scores.fold(name, optimizer)

    try:
        fit(model, source, config, optimizer=optimizer, before_step=event, stage=stage)
        if scores.values and config.iterations > 0:
            drop_below(math.inf)
    finally:
        scores.close()
    return plan
