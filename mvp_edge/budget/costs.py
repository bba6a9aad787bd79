"""Parameters, multiply-adds and file size of any sliced version of a base model, without making it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from mvp_edge.models.attention import is_attention
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.macs import macs_by_module

FLOAT_BYTES = 4
_NORMS = (nn.modules.batchnorm._BatchNorm,)
_WEIGHTED = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True, eq=False)
class Products:
    """`sum_t weight[t] * length[t, 0] * length[t, 1]`, where a length is `fixed + sum_g per_unit[g] * counts[g]`.

    Every tensor of a network is such a term: the two dimensions that groups may run through are the lengths, the others
    are in the weight.

    Attributes:
        weight: Of the terms `(T,)`.
        fixed: Positions that no group covers `(T, 2)`.
        per_unit: Positions of one unit `(T, 2, G)`.
        multiple: Lengths that depend on a count are rounded up to multiples of this.
    """

    weight: np.ndarray
    fixed: np.ndarray
    per_unit: np.ndarray
    multiple: int = 1

    def terms(self, counts: np.ndarray) -> np.ndarray:
        """Return the terms without their weights `(..., T)` for counts `(..., G)`."""
        length = self.fixed + np.einsum("tdg,...g->...td", self.per_unit, counts)
        if self.multiple > 1:
            length = np.where(self.per_unit.any(-1), np.ceil(length / self.multiple) * self.multiple, length)
        return length[..., 0] * length[..., 1]

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return the sum `(...)` for counts `(..., G)`."""
        return self.terms(counts) @ self.weight

    def weighted(self, weight: np.ndarray) -> Products:
        """Return the same terms with other weights."""
        return replace(self, weight=weight)

    def joined(self, other: Products) -> Products:
        """Return the terms of both."""
        pairs = ((self.weight, other.weight), (self.fixed, other.fixed), (self.per_unit, other.per_unit))
        return Products(*(np.concatenate(pair) for pair in pairs), multiple=self.multiple)

    def padded(self, multiple: int) -> Products:
        """Return the same terms with lengths rounded up to multiples of `multiple`."""
        return replace(self, multiple=multiple)


@dataclass(frozen=True)
class Achieved:
    """What one network costs: the median milliseconds of a call, if it was timed, and exact counts."""

    latency_ms: float | None
    macs: int
    params: int
    size_bytes: int


@dataclass(frozen=True, eq=False)
class Costs:
    """A base model's costs by counts `(..., G)` of kept units, groups in the order of `names`.

    Attributes:
        names: Of the groups.
        widths: Units of each group in the base model `(G,)`.
        params: Parameters; exact.
        macs: Multiply-adds as `count_macs` counts them; exact for convolutions, linear layers, norms and the products
            of attention. What another module computes beside its children is taken to follow their parameters.
        stored: Bytes of the weights in an ONNX file, batch norms folded; the graph around them is not counted.
        work: A term for each convolution and linear layer: inputs of one output times outputs, all its positions; and
            one for the products of each attention, which its heads' channels alone decide.
        kinds: What terms of `work` have in common (positions of the output, grouped or not; attention has no position)
            `(T,)`: their speed.
        outputs: A term for each of these layers: elements of its output.
    """

    names: tuple[str, ...]
    widths: np.ndarray
    params: Products
    macs: Products
    stored: Products
    work: Products
    kinds: tuple[tuple[int, bool], ...]
    outputs: Products

    def counts(self, by_name: Mapping[str, int]) -> np.ndarray:
        """Return counts `(G,)` in the order of `names`."""
        return np.array([by_name[n] for n in self.names])

    def fraction_left(self, counts: np.ndarray) -> tuple[float, float]:
        """Return the fractions of the whole network's multiply-adds and parameters that are left at counts `(G,)`.

        At the smallest counts this is the unprunable cost: that of what no group runs through, such as the embedding of
        a transformer.
        """
        whole = self.widths
        return float(self.macs(counts) / self.macs(whole)), float(self.params(counts) / self.params(whole))

    def by_name(self, counts: np.ndarray) -> dict[str, int]:
        """Return counts `(G,)` as a mapping."""
        return {n: int(c) for n, c in zip(self.names, counts, strict=True)}


def costs_of(model: nn.Module, table: GroupTable, input_size: tuple[int, int], head: str, classes: int) -> Costs:
    """Analyse a base model once.

    Args:
        model: The base model; one forward pass counts its multiply-adds.
        table: Its groups.
        input_size: Height and width in pixels.
        head: Name of the classifier.
        classes: Outputs that the classifier of the sliced model will have.
    """
    shapes = _Shapes(model, table, head, classes)
    own_macs = macs_by_module(model, input_size)
    params, macs, stored, work, outputs, heads = ([] for _ in range(6))
    kinds = []
    last: list[tuple[str, nn.Parameter]] = []  # tensors of the last norm or layer before
    for name, module in model.named_modules():
        tensors = [(f"{name}.{leaf}".lstrip("."), p) for leaf, p in module.named_parameters(recurse=False)]
        params += [(1.0, t) for t, _ in tensors]
        folded = isinstance(module, _NORMS)  # into the bias of the layer before; only one of the two vectors is left
        stored += [(FLOAT_BYTES, t) for t, _ in tensors[: 1 if folded else None]]
        share = own_macs.get(name, 0)
        # A pooling layer follows the width of the norm before it, a module with children (attention) their parameters.
        if is_attention(module) and share:
            heads.append((share / module.qkv.out_features, f"{name}.qkv.weight"))
            share = 0
        main = tensors[:1] or shapes.below(name) or last
        last = tensors[:1] or last
        macs += [(share / sum(p.numel() for _, p in main), t) for t, _ in main] if share else []
        if isinstance(module, _WEIGHTED):
            positions = share / module.weight.numel()
            work.append((positions, tensors[0][0]))
            kinds.append((round(positions), isinstance(module, nn.Conv2d) and module.groups > 1))
            outputs.append((positions, tensors[0][0]))
    attention = shapes.products(heads, dims=1)
    return Costs(
        names=tuple(g.name for g in table.groups),
        widths=np.array([g.width for g in table.groups]),
        params=shapes.products(params),
        macs=shapes.products(macs).joined(attention),
        stored=shapes.products(stored),
        work=shapes.products(work).joined(attention),
        kinds=(*kinds, *[(0, False)] * len(heads)),
        outputs=shapes.products(outputs, dims=1),
    )


class _Shapes:
    """How long the dimensions of each tensor are, as a function of the counts."""

    def __init__(self, model: nn.Module, table: GroupTable, head: str, classes: int) -> None:
        self.model = model
        self.groups = [g.name for g in table.groups]
        self.parameters = dict(model.named_parameters())
        self.size = {n: list(p.shape) for n, p in self.parameters.items()}
        for leaf, dims in ((n, s) for n, s in self.size.items() if n.startswith(f"{head}.")):
            self.size[leaf] = [classes, *dims[1:]]
        self.per_unit: dict[tuple[str, int], np.ndarray] = defaultdict(lambda: np.zeros(len(self.groups)))
        for g, group in enumerate(table.groups):
            for dimension in group.dimensions:
                self.per_unit[dimension.tensor, dimension.dim][g] += len(dimension.index[0])
        self.widths = np.array([g.width for g in table.groups])

    def below(self, module: str) -> list[tuple[str, nn.Parameter]]:
        prefix = f"{module}." if module else ""
        return [(n, p) for n, p in self.parameters.items() if n.startswith(prefix)]

    def products(self, terms: list[tuple[float, str]], dims: int = 2) -> Products:
        """Return one term for each (factor, tensor); `dims=1` counts outputs only."""
        weight, fixed, per_unit = [], [], []
        for factor, tensor in terms:
            sizes = self.size[tensor]
            free = [d for d in range(len(sizes)) if (tensor, d) in self.per_unit][:2]
            others = [d for d in range(len(sizes)) if d not in free]
            lead = [0] if dims == 1 else sorted([*free, *others][:2])
            rest = math.prod(s for d, s in enumerate(sizes) if d not in lead) if dims == 2 else 1
            parts = [self.per_unit.get((tensor, d), np.zeros(len(self.groups))) for d in lead]
            loose = [sizes[d] - float(p @ self.widths) for d, p in zip(lead, parts, strict=True)]
            while len(parts) < 2:
                parts.append(np.zeros(len(self.groups)))
                loose.append(1.0)
            weight.append(factor * rest)
            fixed.append(loose)
            per_unit.append(parts)
        n = len(self.groups)
        return Products(
            np.array(weight, float), np.array(fixed, float).reshape(-1, 2), np.array(per_unit, float).reshape(-1, 2, n)
        )
