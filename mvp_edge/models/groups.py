"""Coupled units: which positions of which tensors stand or fall together.

A trace finds the coupling once per architecture; here it becomes a plain table in the *base model's own coordinates*.
Everything that slices (weights, optimiser momentum), averages voters or scores units reads this one table, so that they
cannot disagree. What is coupled to something that must stay, or that no rule understands, is in no group.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from mvp_edge.config import Embedding
from mvp_edge.core.errors import PlanError
from mvp_edge.models.layer_kinds import WEIGHTED
from mvp_edge.models.marks import Place
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.ties import Labels
from mvp_edge.models.tracer import Trace
from mvp_edge.models.tracing import trace

Index = tuple[tuple[int, ...], ...]  # unit -> the positions that belong to it


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

    @cached_property
    def positions(self) -> Tensor:
        """`index` as a tensor `(units, positions of a unit)`."""
        return torch.tensor(self.index)


@dataclass(frozen=True)
class Consumer:
    """A layer that consumes a group's activations: its input, along the channel axis, shows what each unit is worth."""

    module: str
    index: Index


@dataclass(frozen=True)
class Size:
    """An integer attribute of a module that counts positions.

    Attributes:
        module: Its name.
        attribute: Name of the attribute.
        item: Number of the entry, if the attribute is a list.
        index: `index[unit]` lists the unit's positions.
        length: What it counts in the base model.
    """

    module: str
    attribute: str
    item: int | None
    index: Index
    length: int


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
        sizes: Attributes that count them.
    """

    name: str
    width: int
    unit_channels: int
    dimensions: tuple[SlicedDimension, ...]
    consumers: tuple[Consumer, ...]
    norms: tuple[Consumer, ...]
    sizes: tuple[Size, ...] = ()


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
            flags[dimension.positions[gone].flatten()] = False
    positions: Positions = defaultdict(dict)
    for (tensor, dim), flags in keep.items():
        positions[tensor][dim] = flags.nonzero().flatten()
    return dict(positions)


def kept_sizes(table: GroupTable, plan: KeepPlan) -> dict[Place, int]:
    """Return what the attributes that count units are after slicing."""
    values: dict[Place, int] = {}
    for group in table.groups:
        gone = set(range(group.width)) - set(plan[group.name])
        for size in group.sizes:
            place = size.module, size.attribute, size.item
            values[place] = values.get(place, size.length) - sum(len(size.index[unit]) for unit in gone)
    return values


def find_groups(model: nn.Module, input_size: tuple[int, int], embedding: Embedding = "whole") -> GroupTable:
    """Find the coupled groups of a model.

    Units are told apart by where they are stored: channels that another layer takes as well form a group of their own.
    The outputs of the network are classes and are never pruned.

    Args:
        model: A network; it is left as it was.
        input_size: (H, W) of an image that it can process.
        embedding: Whether the embedding of a transformer, which all its blocks read and add to, is a group as well.

    Raises:
        PlanError: nothing can be sliced.
    """
    found = trace(model, input_size)
    groups = _Assembly(model, found).groups()
    if embedding == "whole":
        groups = [g for g in groups if not _is_embedding(g, found)]
    if not groups:
        raise PlanError("nothing in this network can be sliced; use another base model")
    return GroupTable(tuple(groups))


def _is_embedding(group: Group, found: Trace) -> bool:
    """Say whether a group made elsewhere is what a layer of attention reads."""
    outside = [a for a in found.attentions if not group.name.startswith(f"{a}.")]
    return any(c.module.startswith(f"{a}.") for a in outside for c in group.consumers)


class _Assembly:
    """Turns labels into groups. Units of a layer belong together if they occur in the same places equally often."""

    def __init__(self, model: nn.Module, found: Trace) -> None:
        self._modules = dict(model.named_modules())
        tensors = [(name, d, labels) for name, dims in found.tensors.items() for d, labels in enumerate(dims)]
        self._places: list[tuple[str, int, Labels]] = [(n, d, e) for n, d, e in tensors if e is not None and e.any()]
        self._sizes = [(place, e) for place, e in found.sizes.items() if e.any()]
        self._found = found
        self._roots = []  # (layer, labels of what it makes), in the order of the modules
        for name, module in self._modules.items():
            if isinstance(module, WEIGHTED):
                made = found.tensors[f"{name}.weight"][_made_by(module)]
                if made is not None and made.any():
                    self._roots.append((name, made))
        self._count = 1 + max((int(e.max()) for _, _, e in self._places), default=0)

    def groups(self) -> list[Group]:
        """Return the groups in the order of their first layers."""
        family, signature = self._families(), self._signatures()
        seen = np.zeros(self._count, bool)
        members: dict[tuple[int, int], list[int]] = {}
        names: dict[tuple[int, int], str] = {}
        for name, made in self._roots:
            fresh = made[np.sort(np.unique(made, return_index=True)[1])]
            for label in fresh[(fresh > 0) & ~seen[fresh]].tolist():
                key = int(family[label]), int(signature[label])
                members.setdefault(key, []).append(label)
                names.setdefault(key, name)
            seen[fresh] = True
        order: dict[str, int] = {name: i for i, name in enumerate(self._modules)}
        keys = sorted((k for k, units in members.items() if len(units) > 1), key=lambda k: order[names[k]])
        return self._assembled({k: members[k] for k in keys}, names)

    def _families(self) -> Labels:
        """Number labels that some layer makes together alike."""
        pairs = [(e[0], e) for _, made in self._roots if len(e := made[made > 0])]
        first = np.concatenate([np.full(len(e), a) for a, e in pairs]) if pairs else np.zeros(0, int)
        second = np.concatenate([e for _, e in pairs]) if pairs else np.zeros(0, int)
        graph = coo_array((np.ones(len(first)), (first, second)), shape=(self._count, self._count))
        return connected_components(graph, directed=False)[1]

    def _signatures(self) -> Labels:
        """Number labels that occur in the same dimensions equally often alike."""
        draw = np.random.default_rng(0)
        signature = np.zeros(self._count, np.uint64)
        for labels in [e for *_, e in self._places] + [e for _, e in self._sizes]:
            np.add.at(signature, labels, draw.integers(1, 2**63, dtype=np.uint64))
        return np.unique(signature, return_inverse=True)[1]

    def _assembled(self, members: dict[tuple[int, int], list[int]], names: dict[tuple[int, int], str]) -> list[Group]:
        group_of, unit_of = np.full(self._count, -1), np.zeros(self._count, int)
        for number, units in enumerate(members.values()):
            group_of[units], unit_of[units] = number, range(len(units))
        widths = [len(units) for units in members.values()]

        def spread(labels: Labels) -> dict[int, Index]:
            """Return the positions of each unit in a dimension by the number of the group."""
            groups = group_of[labels]
            parts: dict[int, Index] = {}
            for number in np.unique(groups[groups >= 0]).tolist():
                positions = np.flatnonzero(groups == number)
                units = unit_of[labels[positions]]
                table = positions[np.argsort(units, kind="stable")].reshape(widths[number], -1)
                parts[number] = tuple(map(tuple, table.tolist()))
            return parts

        dimensions: dict[int, list[SlicedDimension]] = defaultdict(list)
        for name, d, labels in self._places:
            for number, index in spread(labels).items():
                dimensions[number].append(SlicedDimension(name, d, index, len(labels)))
        consumers, norms = defaultdict(list), defaultdict(list)
        for into, layers in ((consumers, self._found.inputs), (norms, self._norms())):
            for name in sorted(layers, key=list(self._modules).index):
                for number, index in spread(layers[name]).items():
                    into[number].append(Consumer(name, index))
        sizes: dict[int, list[Size]] = defaultdict(list)
        for place, labels in self._sizes:
            for number, index in spread(labels).items():
                sizes[number].append(Size(*place, index, len(labels)))
        found, used = [], set()
        for number, key in enumerate(members):
            name, copies = names[key], 1
            while name in used:
                copies += 1
                name = f"{names[key]}#{copies}"
            used.add(name)
            layers = [e.index for e in dimensions[number] if self._is_weight(e.tensor)] + [
                c.index for c in consumers[number]
            ]
            found.append(
                Group(
                    name,
                    widths[number],
                    min(len(index[0]) for index in layers),
                    tuple(dimensions[number]),
                    tuple(consumers[number]),
                    tuple(norms[number]),
                    tuple(sizes[number]),
                )
            )
        return found

    def _norms(self) -> dict[str, Labels]:
        """Return the channels of norms with a scale by name."""
        batch = {
            name: labels
            for name, module in self._modules.items()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine
            if (labels := self._found.tensors[f"{name}.weight"][0]) is not None
        }
        return batch | self._found.norms

    def _is_weight(self, tensor: str) -> bool:
        return tensor.endswith(".weight") and isinstance(self._modules[tensor.removesuffix(".weight")], WEIGHTED)


def _made_by(layer: nn.Module) -> int:
    """Return the dimension of a layer's weight that counts what it makes."""
    return 1 if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d)) else 0
