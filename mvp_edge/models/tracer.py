"""What follows labels through a pass: which positions of what an operator reads and makes stand or fall together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from mvp_edge.models.layer_kinds import CHANNEL_NORMS, WEIGHTED, channel_axis
from mvp_edge.models.marks import Marked, Place
from mvp_edge.models.ties import Labels, Ties

Dims = tuple[Labels | None, ...]  # of a tensor; None where no position may go
_POINTWISE = {
    "clone", "detach", "alias", "_to", "_to_copy", "lift_fresh", "contiguous", "native_dropout", "copy", "fill", "zero",
    "hardswish", "hardsigmoid", "mish", "masked_fill", "where", "prelu", "_prelu_kernel",
}  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """What one pass found. Labels are canonical: equal ones are tied, and 0 stays.

    Attributes:
        tensors: Labels of parameters and buffers by name.
        inputs: Labels of the input channels of layers with weights, by the name of the layer.
        norms: Labels of the channels that a norm takes, by the name of the norm.
        sizes: Labels that an integer attribute counts.
        attentions: Modules that split channels into heads.
    """

    tensors: dict[str, Dims]
    inputs: dict[str, Labels]
    norms: dict[str, Labels]
    sizes: dict[Place, Labels]
    attentions: frozenset[str]


@dataclass(frozen=True)
class Call:
    """What the network's own code calls."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Calls(TorchFunctionMode):
    """Notes what the network's own code calls, before torch turns the arguments into plain numbers."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outer, self._tracer.call = self._tracer.call, Call(getattr(func, "__name__", ""), args, kwargs or {})
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._tracer.call = outer


class Tracer(TorchDispatchMode):
    """Ties the labels of what a pass reads and makes.

    Args:
        model: To run; its norms are watched from now on.
        rules: What ties labels, by the name of the operator.
    """

    def __init__(self, model: nn.Module, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        ties = Ties()
        self.find, self.tie, self.freeze, self._fresh = ties.find, ties.tie, ties.freeze, ties.fresh
        self._rules = rules
        self.call = Call("", (), {})
        self.unknown: set[str] = set()
        self._paused = False
        self._dims: Any = WeakTensorKeyDictionary()
        self.made_of_weights: Any = WeakTensorKeyDictionary()  # tensors that are made of parameters only
        self._named: dict[str, Dims] = {}
        self._owner: Any = WeakTensorKeyDictionary()  # weight -> name of its layer
        self._inputs: dict[str, Labels] = {}
        self._norms: dict[str, Labels] = {}
        self._sizes: dict[Place, list[Labels]] = defaultdict(list)
        self._attentions: set[str] = set()
        self._label(model)

    def _label(self, model: nn.Module) -> None:
        weights = {}
        for name, module in model.named_modules():
            if isinstance(module, WEIGHTED):
                self._owner[module.weight] = name
                weights[f"{name}.weight"] = module
            elif isinstance(module, CHANNEL_NORMS):
                self._watch(name, module)
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.ndim:
                least = 2 if name in weights else tensor.ndim
                dims = tuple(self._fresh(n) if n > 1 and d < least else None for d, n in enumerate(tensor.shape))
                self._dims[tensor] = self._named[name] = dims
                self.made_of_weights[tensor] = True

    def _watch(self, name: str, module: nn.Module) -> None:
        """Handle a norm as a whole: its channels are those of its weight and bias."""
        forward = module.forward

        def watched(x: Tensor) -> Tensor:
            self._paused = True
            try:
                output = forward(x)
            finally:
                self._paused = False
            self._norm(name, module, x, output)
            return output

        module.forward = watched

    def _norm(self, name: str, module: Any, x: Tensor, output: Tensor) -> None:
        dims = self.dims(x)
        axis = channel_axis(module, x)
        wide = isinstance(module, (nn.GroupNorm, GlobalResponseNorm))  # its statistics are over pixels, too
        others = wide and any(d != axis and labels is not None for d, labels in enumerate(dims))
        if axis is None or output.shape != x.shape or others:
            self.freeze_all([x, *module.parameters()])
            return
        channels = dims[axis]
        weight = getattr(module, "weight", None)
        if weight is None:
            self.freeze(channels)
        for parameter in module.parameters(recurse=False):
            self.tie(self.dims(parameter)[0], channels)
        if channels is not None:
            groups = getattr(module, "num_groups", 1)
            if groups > 1:
                table = channels.reshape(groups, -1)
                self.tie(table, table[:, :1])
                self.count((name, "num_groups", None), table[:, 0])
            self._norms[name] = channels
        self.set_dims(output, dims)

    def freeze_all(self, tensors: Sequence[Tensor]) -> None:
        """Let all positions of tensors stay."""
        for tensor in tensors:
            for labels in self.dims(tensor):
                self.freeze(labels)

    def dims(self, tensor: Tensor) -> Dims:
        """Return the labels of a tensor."""
        found = self._dims.get(tensor)
        return found if found is not None and len(found) == tensor.ndim else (None,) * tensor.ndim

    def set_dims(self, tensor: Tensor, dims: Sequence[Labels | None]) -> None:
        """Give a tensor labels, None for a dimension of which no position may go.

        The last position of a dimension stays: it is broadcast from now on, to dimensions that do not shrink with it.
        """
        for labels, n in zip(dims, tensor.shape, strict=True):
            if n == 1:
                self.freeze(labels)
        self._dims[tensor] = tuple(
            None if labels is None or n == 1 or not self.find(labels).any() else labels
            for labels, n in zip(dims, tensor.shape, strict=True)
        )

    # operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self._paused:
            return output
        name = func.overloadpacket.__name__
        if name.endswith("_") and not name.endswith("__"):
            name = name[:-1]
        name = name.removesuffix("_copy")
        inputs = tensors_in((args, kwargs))
        outputs = tensors_in(output)
        rule = self._rules.get(name)
        if rule is not None:
            rule(self, args, kwargs, outputs)
        elif torch.Tag.pointwise in func.tags or name in _POINTWISE:
            self.pointwise(inputs, outputs)
        elif name.endswith("_like"):
            self.set_dims(outputs[0], self.dims(inputs[0]))
        elif any(self._dims.get(t) is not None for t in inputs):
            self.unknown.add(name)
            self.freeze_all(inputs)
        for made in outputs if inputs and all(t in self.made_of_weights for t in inputs) else ():
            self.made_of_weights[made] = True
        return output

    def pointwise(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Tie positions of tensors that are combined one by one."""
        for output in outputs:
            made: list[Labels | None] = []
            for d in range(-output.ndim, 0):
                sides = [self.dims(t)[d] for t in inputs if t.ndim >= -d and t.shape[d] == output.shape[d]]
                first = next((s for s in sides if s is not None), None)
                for side in sides:
                    self.tie(first, side)
                made.append(first)
            self.set_dims(output, made)

    def contract(self, a: Tensor, b: Tensor, x: Labels | None, y: Labels | None) -> None:
        """Tie the dimension over which two tensors are multiplied and summed.

        Only the weights that read a unit are known to be absent once it is dropped; products of activations stay whole.
        """
        self.tie(x, y)
        if a not in self.made_of_weights and b not in self.made_of_weights:
            self.freeze(x)
            self.freeze(y)

    def size(self, value: Any, labels: Labels | None, length: int) -> None:
        """Note that an attribute counts the positions of a dimension."""
        if isinstance(value, Marked) and value == length:
            self.count(value.place, np.zeros(length, np.int64) if labels is None else labels)

    def count(self, place: Place, labels: Labels) -> None:
        """Note that an attribute counts labels."""
        self._sizes[place].append(labels)

    def note_input(self, weight: Tensor, labels: Labels | None) -> None:
        """Remember what a layer with a weight takes."""
        owner = self._owner.get(weight)
        if owner is not None and labels is not None:
            if owner in self._inputs and len(self._inputs[owner]) == len(labels):
                self.tie(self._inputs[owner], labels)
            self._inputs[owner] = labels

    def note_attention(self, module: str) -> None:
        """Remember a module that splits channels into heads."""
        self._attentions.add(module)

    def owner(self, weight: Tensor) -> str | None:
        """Return the name of the layer of a weight."""
        return self._owner.get(weight)

    def result(self) -> Trace:
        """Return what was found."""
        for found in self._sizes.values():
            for other in found[1:]:
                if len(other) != len(found[0]) or not np.array_equal(self.find(other), self.find(found[0])):
                    for labels in found:
                        self.freeze(labels)
        return Trace(
            {n: tuple(None if d is None else self.find(d) for d in dims) for n, dims in self._named.items()},
            {n: self.find(labels) for n, labels in self._inputs.items()},
            {n: self.find(labels) for n, labels in self._norms.items()},
            {place: self.find(found[0]) for place, found in self._sizes.items()},
            frozenset(self._attentions),
        )


Rule = Callable[[Tracer, Any, Any, list[Tensor]], None]  # tracer, args, kwargs, outputs


class Rules(dict[str, Rule]):
    """Rules by the names of operators; calling it with names registers the function below."""

    def __call__(self, *names: str) -> Callable[[Rule], Rule]:
        """Return a decorator that registers a rule for operators."""

        def register(rule: Rule) -> Rule:
            self.update(dict.fromkeys(names, rule))
            return rule

        return register


def argument(args: Any, kwargs: Any, number: int, name: str, default: Any = None) -> Any:
    """Return an argument of an operator by its number or, if it was given so, its name."""
    return args[number] if len(args) > number else kwargs.get(name, default)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in arguments or results of an operator."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors_in(v)] if isinstance(value, (tuple, list)) else []
