"""Coupled units: which positions of which tensors stand or fall together.

torch-pruning's dependency graph finds the coupling once per architecture; here it becomes a plain table in the *base
model's own coordinates*. Everything that slices (weights, optimiser momentum), averages voters or scores units reads
this one table, so that they cannot disagree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mvp_edge.config import Embedding
from mvp_edge.core.errors import PlanError
from mvp_edge.models.attention import attentions
from mvp_edge.models.dependencies import Coupling, coupled_groups
from mvp_edge.models.plan import KeepPlan

Index = tuple[tuple[int, ...], ...]  # unit -> the positions that belong to it

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)
_WEIGHTED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True)
class SlicedDimension:
    """One dimension of one tensor through which a group runs.

    Attributes:
        tensor: Its name.
        dim: Number of the dimension.
        index: `index[unit]` lists the unit's positions there.
        length: Of the dimension in the base model; positions of no unit always stay.
    """

    tensor: str
    dim: int
    index: Index
    length: int


@dataclass(frozen=True)
class Consumer:
    """A layer that consumes a group's activations: its input, along the channel axis, shows what each unit is worth."""

    module: str
    index: Index


@dataclass(frozen=True)
class Group:
    """Units that several layers share.

    Attributes:
        name: Of the first layer that makes them.
        width: How many there are.
        unit_channels: Channels that one unit stands for where it takes up fewest: 1 for a filter or a hidden node, the
            width of a head, the width of a group of a grouped convolution.
        dimensions: Where they are stored.
        consumers: Who consumes them.
        norms: The norms that they run through.
    """

    name: str
    width: int
    unit_channels: int
    dimensions: tuple[SlicedDimension, ...]
    consumers: tuple[Consumer, ...]
    norms: tuple[Consumer, ...]


@dataclass(frozen=True)
class GroupTable:
    """All prunable groups of a model, in the order of the forward pass."""

    groups: tuple[Group, ...]

    @property
    def widths(self) -> dict[str, int]:
        """Units by group name."""
        return {g.name: g.width for g in self.groups}

    @property
    def unit_channels(self) -> dict[str, int]:
        """Channels that one unit stands for, by group name."""
        return {g.name: g.unit_channels for g in self.groups}


Positions = dict[str, dict[int, Tensor]]  # tensor name -> dimension -> kept positions in the base's coordinates


def kept_positions(table: GroupTable, plan: KeepPlan) -> Positions:
    """Return what a plan keeps of every tensor that any group runs through.

    Positions that no group covers (in a concatenation with unprunable inputs, say) are kept.

    Raises:
        PlanError: the plan is for another base model.
    """
    if plan.widths != table.widths:
        raise PlanError("the plan was made for another base model: group names or widths differ")
    keep: dict[tuple[str, int], Tensor] = {}
    for group in table.groups:
        gone = sorted(set(range(group.width)) - set(plan[group.name]))
        for dimension in group.dimensions:
            place = dimension.tensor, dimension.dim
            flags = keep.setdefault(place, torch.ones(dimension.length, dtype=torch.bool))
            flags[torch.tensor(dimension.index)[gone].flatten()] = False
    positions: Positions = defaultdict(dict)
    for (tensor, dim), flags in keep.items():
        positions[tensor][dim] = flags.nonzero().flatten()
    return dict(positions)


@dataclass
class _Raw:
    """A group as the dependency graph gives it: entries are (name, dim or kind, root index -> positions)."""

    root: str
    width: int
    dimensions: list[tuple[str, int, dict[int, list[int]]]]
    consumers: list[tuple[str, dict[int, list[int]]]]
    norms: list[tuple[str, dict[int, list[int]]]]


def find_groups(model: nn.Module, input_size: tuple[int, int], head: str, embedding: Embedding = "whole") -> GroupTable:
    """Find the coupled groups of a model.

    Args:
        model: A network whose parameters require gradients; it is left as it was.
        input_size: (H, W) of an image that it can process.
        head: Name of the classifier, whose outputs are classes and are never pruned.
        embedding: Whether the embedding of a transformer, which all its blocks read and add to, is a group as well.

    Raises:
        PlanError: the graph contains a layer that cannot be sliced faithfully.
    """
    couplings = coupled_groups(model, input_size, model.get_submodule(head), _WEIGHTED)
    raw = [_read(model, items) for items in couplings]
    if embedding == "whole":
        readers = {f"{name}.qkv" for name in attentions(model)}
        raw = [r for r in raw if readers.isdisjoint(consumer for consumer, _ in r.consumers)]
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    groups = [_merge(members, model) for members in _coupled_by_grouped_convs(raw, model)]
    _check_places(groups)
    return GroupTable(tuple(sorted(groups, key=lambda g: order[g.name])))


def _read(model: nn.Module, items: Sequence[Coupling]) -> _Raw:
    modules = {m: n for n, m in model.named_modules()}
    parameters = {p: n for n, p in model.named_parameters()}
    roots = [modules[i.target] for i in items if isinstance(i.target, _WEIGHTED) and i.is_output]
    first = min(roots, key=list(modules.values()).index)
    raw = _Raw(first, len(items[0].positions), [], [], [])
    for item in items:
        where: dict[int, list[int]] = defaultdict(list)
        for position, unit in zip(item.positions, item.units, strict=True):
            where[unit].append(position)
        if isinstance(item.target, nn.Parameter):
            sizes = [d for d, n in enumerate(item.target.shape) if n > 1]
            raw.dimensions.append((parameters[item.target], sizes[-1] if sizes else 0, where))
        elif item.target in modules:
            _read_layer(raw, modules[item.target], item.target, where, item.is_output)
    return raw


def _read_layer(raw: _Raw, name: str, layer: nn.Module, where: dict[int, list[int]], is_output: bool) -> None:
    if isinstance(layer, _NORMS):
        raw.norms.append((name, where))
        tensors = [t for t in ("weight", "bias", "running_mean", "running_var") if getattr(layer, t, None) is not None]
        raw.dimensions += [(f"{name}.{t}", 0, where) for t in tensors]
    elif isinstance(layer, _WEIGHTED):
        grouped = isinstance(layer, nn.Conv2d) and layer.groups > 1
        if is_output:
            raw.dimensions.append((f"{name}.weight", 0, where))
            if layer.bias is not None:
                raw.dimensions.append((f"{name}.bias", 0, where))
        else:
            raw.consumers.append((name, where))
            if not grouped:
                raw.dimensions.append((f"{name}.weight", 1, where))
    elif next(layer.parameters(recurse=False), None) is not None:
        raise PlanError(
            f"layer {name} ({type(layer).__name__}) cannot be sliced; supported are Conv2d, Linear, BatchNorm, "
            "LayerNorm and free scale parameters. Use another base model."
        )


def _coupled_by_grouped_convs(raw: list[_Raw], model: nn.Module) -> list[list[tuple[_Raw, list[int]]]]:
    """Join the groups on the two sides of each grouped convolution; give each root index the number of its unit.

    Dropping single channels would leave conv groups of unequal width, so a unit there is a whole conv group. In a
    depthwise convolution the dependency graph has coupled both sides already.
    """
    unit = [_heads(r, model) or list(range(r.width)) for r in raw]
    joined = list(range(len(raw)))
    for name, layer in model.named_modules():
        if not (isinstance(layer, nn.Conv2d) and layer.groups > 1):
            continue
        sides = [(i, w, layer.in_channels) for i, r in enumerate(raw) for n, w in r.consumers if n == name]
        sides += [
            (i, w, layer.out_channels) for i, r in enumerate(raw) for n, d, w in r.dimensions if n == f"{name}.weight"
        ]
        if len({i for i, _, _ in sides}) < 2 or layer.groups == layer.in_channels == layer.out_channels:
            continue
        for i, where, channels in sides:
            if max(len(p) for p in where.values()) > 1 or len(set(unit[i])) < raw[i].width:
                raise PlanError(f"layer {name}: this grouped convolution cannot be sliced; use another base model")
            per_group = channels // layer.groups
            unit[i] = [where[root][0] // per_group for root in range(raw[i].width)]
            joined[i] = min(joined[s] for s, _, _ in sides)
    return [
        [(raw[i], unit[i]) for i in range(len(raw)) if joined[i] == j] for j in range(len(raw)) if j in joined
    ]  # fmt: skip


def _heads(raw: _Raw, model: nn.Module) -> list[int] | None:
    """Give each root index of a group that runs through an attention's `qkv` its head; None for other groups.

    The graph does not know of heads: it holds single channels of queries, keys and values for independent, and lets
    only those of the values, which come last, reach `proj`.
    """
    for name, layer in attentions(model).items():
        for tensor, dim, where in raw.dimensions:
            if (tensor, dim) == (f"{name}.qkv.weight", 0):
                channels = layer.num_heads * layer.head_dim
                return [where[root][0] % channels // layer.head_dim for root in range(raw.width)]
    return None


def _merge(members: list[tuple[_Raw, list[int]]], model: nn.Module) -> Group:
    width = max(members[0][1]) + 1

    def by_unit(where: dict[int, list[int]], unit: list[int], what: str) -> Index:
        positions: list[list[int]] = [[] for _ in range(width)]
        for root, place in where.items():
            positions[unit[root]].extend(place)
        if len({len(p) for p in positions}) != 1 or not positions[0]:
            raise PlanError(f"{what}: its units have unequal sizes and cannot be sliced; use another base model")
        return tuple(tuple(sorted(p)) for p in positions)

    names = list(dict(model.named_modules()))
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    dimensions = [
        SlicedDimension(n, d, by_unit(w, u, n), tensors[n].shape[d]) for r, u in members for n, d, w in r.dimensions
    ]
    consumers = [Consumer(n, by_unit(w, u, n)) for r, u in members for n, w in r.consumers]
    norms = [Consumer(n, by_unit(w, u, n)) for r, u in members for n, w in r.norms]
    first = min((r.root for r, _ in members), key=names.index)
    unit_channels = min(len(dimension.index[0]) for dimension in dimensions)
    return Group(first, width, unit_channels, tuple(dimensions), tuple(consumers), tuple(norms))


def _check_places(groups: list[Group]) -> None:
    """Refuse positions that a tensor does not have: the graph has not understood how its layer is used."""
    for dimension in (dimension for group in groups for dimension in group.dimensions):
        if max(unit[-1] for unit in dimension.index) >= dimension.length:
            raise PlanError(
                f"{dimension.tensor}: its layer is used in a way that cannot be sliced; use another base model"
            )
