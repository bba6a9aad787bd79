"""Which positions of which tensors stand or fall together, found by following labels through one forward pass.

Every position of every parameter dimension that may shrink gets a label. The network runs once, and each operator that
torch dispatches ties labels: an addition those of its operands, a convolution those of its input channels and of its
weight's. Label 0 stands for positions that must stay; what is tied to it stays as well. An operator that is not known
ties all that it reads to 0, so that nothing is sliced which was not understood.

Code that computes shapes from its own attributes (`reshape(B, N, self.num_heads, -1)`) has to see other numbers once a
network is sliced. Such attributes are replaced by marked integers for the pass, which tell where they are used.

Norms over channels skip what is dropped, as the sliced network's do; a mean over channels outside of one stays whole.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timm.layers.grn import GlobalResponseNorm
from timm.layers.norm import RmsNorm, RmsNorm2d, RmsNorm2dFp32, RmsNormFp32
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

Labels = np.ndarray  # of one dimension: a label for each position
Dims = tuple[Labels | None, ...]  # of a tensor; None where no position may go
Place = tuple[str, str, int | None]  # module, attribute, number of an entry if the attribute is a list

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
WEIGHTED = (*CONVOLUTIONS, nn.Linear)
CHANNEL_NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, RmsNorm2d, RmsNormFp32, RmsNorm2dFp32, GlobalResponseNorm,
)  # fmt: skip
_LEAVES = (*WEIGHTED, *CHANNEL_NORMS, nn.modules.batchnorm._BatchNorm)

WHOLE_GROUPS = 8  # from so many groups on a grouped convolution loses whole ones; below, each loses the same channels


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


def trace(model: nn.Module, input_size: tuple[int, int]) -> Trace:
    """Follow labels through a network in evaluation mode, which is left as it was.

    Args:
        model: Takes `(N, 3, H, W)`.
        input_size: (H, W) of an image that it accepts.
    """
    clone = copy.deepcopy(model).eval()
    reference = next(clone.parameters())
    tracer = _Tracer(clone)
    _mark_integers(clone)
    image = torch.zeros(1, 3, *input_size, device=reference.device, dtype=reference.dtype)
    with torch.no_grad(), tracer, _Calls(tracer):
        output = clone(image)
    tracer.freeze_all(_tensors_in(output))
    return tracer.result()


class _Marked(int):
    """An integer that is an attribute of a module."""

    place: Place


def _mark_integers(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _LEAVES):
            continue
        for attribute, value in list(vars(module).items()):
            if type(value) is int:
                vars(module)[attribute] = _marked(value, (name, attribute, None))
            elif type(value) in (list, tuple) and value and all(type(v) is int for v in value):
                vars(module)[attribute] = type(value)(_marked(v, (name, attribute, i)) for i, v in enumerate(value))


def _marked(value: int, place: Place) -> _Marked:
    marked = _Marked(value)
    marked.place = place
    return marked


@dataclass(frozen=True)
class _Call:
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Calls(TorchFunctionMode):
    """Notes what the network's own code calls, before torch turns the arguments into plain numbers."""

    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outer, self._tracer.call = self._tracer.call, _Call(getattr(func, "__name__", ""), args, kwargs or {})
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self._tracer.call = outer


class _Tracer(TorchDispatchMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.call = _Call("", (), {})
        self.unknown: set[str] = set()
        self._paused = False
        self._parent = np.zeros(1, dtype=np.int64)
        self._dims: Any = WeakTensorKeyDictionary()
        self._weights: Any = WeakTensorKeyDictionary()  # tensors that are made of parameters only
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
                self._weights[tensor] = True

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
                self._sizes[name, "num_groups", None].append(table[:, 0])
            self._norms[name] = channels
        self._set(output, dims)

    # labels

    def _fresh(self, count: int) -> Labels:
        first = len(self._parent)
        labels = np.arange(first, first + count)
        self._parent = np.concatenate([self._parent, labels])
        return labels

    def find(self, labels: Labels) -> Labels:
        """Return the canonical labels."""
        found = self._parent[labels]
        while not np.array_equal(found, further := self._parent[found]):
            found = further
        return found

    def tie(self, a: Labels | None, b: Labels | None) -> None:
        """Let positions stand or fall together; where one side is None, the other one stays."""
        if a is None and b is None:
            return
        a, b = np.broadcast_arrays(np.int64(0) if a is None else a, np.int64(0) if b is None else b)
        while True:
            one, other = self.find(a), self.find(b)
            differ = one != other
            if not differ.any():
                return
            one, other = one[differ], other[differ]
            np.minimum.at(self._parent, np.maximum(one, other), np.minimum(one, other))

    def freeze(self, labels: Labels | None) -> None:
        """Let positions stay."""
        self.tie(labels, None)

    def freeze_all(self, tensors: Sequence[Tensor]) -> None:
        """Let all positions of tensors stay."""
        for tensor in tensors:
            for labels in self.dims(tensor):
                self.freeze(labels)

    def dims(self, tensor: Tensor) -> Dims:
        """Return the labels of a tensor."""
        found = self._dims.get(tensor)
        return found if found is not None and len(found) == tensor.ndim else (None,) * tensor.ndim

    def _set(self, tensor: Tensor, dims: Sequence[Labels | None]) -> None:
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
        inputs = _tensors_in((args, kwargs))
        outputs = _tensors_in(output)
        rule = _RULES.get(name)
        if rule is not None:
            rule(self, args, kwargs, outputs)
        elif torch.Tag.pointwise in func.tags or name in _POINTWISE:
            self._pointwise(inputs, outputs)
        elif name.endswith("_like"):
            self._set(outputs[0], self.dims(inputs[0]))
        elif any(self._dims.get(t) is not None for t in inputs):
            self.unknown.add(name)
            self.freeze_all(inputs)
        for made in outputs if inputs and all(t in self._weights for t in inputs) else ():
            self._weights[made] = True
        return output

    def _pointwise(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        for output in outputs:
            made: list[Labels | None] = []
            for d in range(-output.ndim, 0):
                sides = [self.dims(t)[d] for t in inputs if t.ndim >= -d and t.shape[d] == output.shape[d]]
                first = next((s for s in sides if s is not None), None)
                for side in sides:
                    self.tie(first, side)
                made.append(first)
            self._set(output, made)

    def contract(self, a: Tensor, b: Tensor, x: Labels | None, y: Labels | None) -> None:
        """Tie the dimension over which two tensors are multiplied and summed.

        Only the weights that read a unit are known to be absent once it is dropped; products of activations stay whole.
        """
        self.tie(x, y)
        if a not in self._weights and b not in self._weights:
            self.freeze(x)
            self.freeze(y)

    def size(self, value: Any, labels: Labels | None, length: int) -> None:
        """Note that an attribute counts the positions of a dimension."""
        if isinstance(value, _Marked) and value == length:
            self._sizes[value.place].append(np.zeros(length, np.int64) if labels is None else labels)

    def note_input(self, weight: Tensor, labels: Labels | None) -> None:
        """Remember what a layer with a weight takes."""
        owner = self._owner.get(weight)
        if owner is not None and labels is not None:
            if owner in self._inputs and len(self._inputs[owner]) == len(labels):
                self.tie(self._inputs[owner], labels)
            self._inputs[owner] = labels

    def owner(self, weight: Tensor) -> str | None:
        """Return the name of the layer of a weight."""
        return self._owner.get(weight)

    def view(self, x: Tensor, output: Tensor) -> None:
        """Follow labels through a change of shape."""
        asked = self._asked_shape(output)
        made: list[Labels | None] = [None] * output.ndim
        for ins, outs in _blocks(x.shape, output.shape):
            shape = [output.shape[d] for d in outs]
            labels = self._merged([(self.dims(x)[d], x.shape[d]) for d in ins])
            if labels is None:
                continue
            axis = self._carrier(labels.reshape(shape), [asked[d] for d in outs])
            table = np.moveaxis(labels.reshape(shape), axis, 0).reshape(shape[axis], -1)
            self.tie(table, table[:, :1])
            made[outs[axis]] = table[:, 0]
        self._set(output, made)
        for d, value in enumerate(asked):
            self.size(value, self.dims(output)[d], output.shape[d])

    def _merged(self, sides: list[tuple[Labels | None, int]]) -> Labels | None:
        """Return the labels of dimensions laid out as one; where two have labels, the longer ones are kept."""
        carried = max((labels for labels, _ in sides if labels is not None), key=len, default=None)
        if carried is None:
            return None
        shape = [n for _, n in sides]
        axis = next(d for d, (labels, _) in enumerate(sides) if labels is carried)
        for d, (labels, _) in enumerate(sides):
            if d != axis:
                self.freeze(labels)
        alone = carried.reshape([-1 if d == axis else 1 for d in range(len(shape))])
        return np.broadcast_to(alone, shape).reshape(-1)

    def _carrier(self, table: Labels, asked: list[Any]) -> int:
        """Return the dimension along which units are told apart after one dimension was split into several."""
        if table.ndim == 1:
            return 0
        now = self.find(table)
        for axis in range(table.ndim):
            alone = now[tuple(slice(None) if d == axis else slice(1) for d in range(table.ndim))]
            if (alone != alone.flat[0]).any() and (now == alone).all():
                return axis
        heads = [d for d, v in enumerate(asked) if isinstance(v, _Marked) and "head" in v.place[1]]
        heads = [d for d in heads if "dim" not in asked[d].place[1]]
        if heads:
            self._attentions.add(asked[heads[0]].place[0])
            return heads[0]
        live = [d for d, v in enumerate(asked) if not isinstance(v, _Marked)]
        return max(live or range(table.ndim), key=lambda d: table.shape[d])

    def _asked_shape(self, output: Tensor) -> list[Any]:
        """Return the sizes that the network's own code gave, None where it gave none."""
        nothing: list[Any] = [None] * output.ndim
        name, args = self.call.name, self.call.args
        if name in ("view", "reshape") and len(args) > 1:
            given = list(args[1]) if isinstance(args[1], (tuple, list)) else list(args[1:])
        elif name == "unflatten" and len(args) > 2:
            lead = int(args[1]) % args[0].ndim
            given = [*nothing[:lead], *args[2]]
            given += nothing[len(given) :]
        else:
            return nothing
        fits = len(given) == output.ndim and all(
            v is None or int(v) in (-1, n) for v, n in zip(given, output.shape, strict=True)
        )
        return given if fits else nothing

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


def channel_axis(norm: Any, x: Tensor) -> int | None:
    """Return the dimension over which a norm takes its statistics, None where it is not one dimension."""
    weight = getattr(norm, "weight", None)
    count = weight.numel() if weight is not None else getattr(norm, "num_channels", None)
    if weight is not None and weight.ndim != 1:
        return None
    first = isinstance(norm, nn.GroupNorm) or "2d" in type(norm).__name__.lower()
    if isinstance(norm, GlobalResponseNorm):
        first = norm.channel_dim == 1
    axis = 1 if first else x.ndim - 1
    return axis if count is None or x.shape[axis] == count else None


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors_in(v)] if isinstance(value, (tuple, list)) else []


def _blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Pair the runs of dimensions of two shapes that hold the same elements."""
    i = j = 0
    while i < len(before) and j < len(after):
        ins, outs, a, b = [i], [j], before[i], after[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                if i == len(before):
                    return
                ins.append(i)
                a *= before[i]
                i += 1
            else:
                if j == len(after):
                    return
                outs.append(j)
                b *= after[j]
                j += 1
        yield ins, outs


# Rules: (tracer, args, kwargs, outputs)

Rule = Callable[[_Tracer, Any, Any, list[Tensor]], None]
_RULES: dict[str, Rule] = {}
_POINTWISE = {
    "clone", "detach", "alias", "_to", "_to_copy", "lift_fresh", "contiguous", "native_dropout", "copy", "fill", "zero",
    "hardswish", "hardsigmoid", "mish", "masked_fill", "where", "prelu", "_prelu_kernel",
}  # fmt: skip


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def _argument(args: Any, kwargs: Any, number: int, name: str, default: Any = None) -> Any:
    return args[number] if len(args) > number else kwargs.get(name, default)


@_rule("copy")
def _copy(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    target, source = args[0], args[1]
    for d in range(1, source.ndim + 1):
        if source.shape[-d] == target.shape[-d]:
            t.tie(t.dims(target)[-d], t.dims(source)[-d])
    if not any(labels is not None for labels in t.dims(target)) and target.shape == source.shape:
        t._set(outputs[0], t.dims(source))


@_rule("convolution", "mkldnn_convolution", "_convolution")
def _convolution(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, weight, bias = args[:3]
    transposed, groups = (args[6], args[8]) if len(args) > 8 else (False, args[-1])
    dims, kernel = t.dims(x), t.dims(weight)
    for labels in (*dims[2:], *kernel[2:]):
        t.freeze(labels)
    t.freeze(dims[0])
    channels = dims[1]
    ins, outs = (kernel[0], kernel[1]) if transposed else (kernel[1], kernel[0])
    if groups == 1:
        t.contract(x, weight, channels, ins)
        t.note_input(weight, channels)
    elif transposed or (channels is None and weight.shape[0] == groups) or weight not in t._weights:
        t.freeze_all([x, weight])
    else:
        _grouped(t, weight, channels, ins, outs, groups, x.shape[1])
    if bias is not None:
        t.tie(t.dims(bias)[0], outs)
    t._set(outputs[0], [None, outs, *[None] * (outputs[0].ndim - 2)])


def _grouped(
    t: _Tracer, weight: Tensor, channels: Labels | None, ins: Labels | None, outs: Labels | None, groups: int, wide: int
) -> None:
    """Tie a grouped convolution: whole groups go, or each group loses the same positions where there are few groups."""
    taken = np.zeros(wide, np.int64) if channels is None else channels
    made = np.zeros(len(weight), np.int64) if outs is None else outs
    taken, made = taken.reshape(groups, -1), made.reshape(groups, -1)
    owner = t.owner(weight)
    if taken.shape[1] > 1:  # a depthwise convolution reads nothing but itself
        t.note_input(weight, channels)
    if groups >= WHOLE_GROUPS or min(taken.shape[1], made.shape[1]) == 1:
        t.freeze(ins)
        t.tie(taken, taken[:, :1])
        t.tie(made, taken[:, :1])
        if owner is not None:
            t._sizes[owner, "groups", None].append(taken[:, 0])
    else:
        t.tie(taken, ins)
        t.tie(made, made[:1])


@_rule("mm", "bmm", "matmul")
def _product(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    _multiply(t, args[0], args[1], outputs[0])


@_rule("addmm", "baddbmm")
def _sum_and_product(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    _multiply(t, args[1], args[2], outputs[0])
    t._pointwise([outputs[0], args[0]], outputs)


def _multiply(t: _Tracer, a: Tensor, b: Tensor, output: Tensor) -> None:
    left, right = t.dims(a), t.dims(b)
    t.contract(a, b, left[-1], right[-2])
    made: list[Labels | None] = [None] * output.ndim
    for d in range(output.ndim - 2):
        t.tie(left[d], right[d])
        made[d] = left[d] if left[d] is not None else right[d]
    t._set(output, [*made[:-2], left[-2], right[-1]])
    _note_linear(t, a, b, left[-1])


def _note_linear(t: _Tracer, a: Tensor, b: Tensor, channels: Labels | None) -> None:
    """Note what a linear layer takes; its weight arrives transposed."""
    weight = b._base if b._base is not None else b
    if t.owner(weight) is not None:
        t.note_input(weight, channels)


@_rule("linear")
def _linear(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, weight = args[:2]
    bias = _argument(args, kwargs, 2, "bias")
    outs, ins = t.dims(weight)
    t.contract(x, weight, t.dims(x)[-1], ins)
    t.note_input(weight, t.dims(x)[-1])
    if bias is not None:
        t.tie(t.dims(bias)[0], outs)
    t._set(outputs[0], [*t.dims(x)[:-1], outs])


@_rule(
    "native_batch_norm", "batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
)  # fmt: skip
def _batch_norm(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    dims = t.dims(x)
    for d, labels in enumerate(dims):
        if d != 1:
            t.freeze(labels)
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            t.tie(t.dims(tensor)[0], dims[1])
    t._set(outputs[0], dims)


@_rule("native_layer_norm", "native_group_norm", "_fused_rms_norm")
def _whole_norm(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    """Handle norms outside of a layer of their own: what they take statistics over stays."""
    shape = args[1] if isinstance(args[1], (tuple, list)) else None
    dims = t.dims(args[0])
    over = range(len(dims) - len(shape), len(dims)) if shape is not None else range(1, len(dims))
    for d in over:
        t.freeze(dims[d])
    t.freeze_all([a for a in args[1:] if isinstance(a, Tensor)])
    t._set(outputs[0], [None if d in over else labels for d, labels in enumerate(dims)])


@_rule("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "flip", "roll", "sort", "topk", "tril", "triu")
def _along(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    name_dims = {"dims": None, "dim": None} | kwargs
    given = [a for a in args[1:] if not isinstance(a, (bool, float))]
    over = given[-1] if given else name_dims["dim"]
    over = over if isinstance(over, (tuple, list)) else [over]
    chosen = {int(d) % len(dims) for d in over if isinstance(d, int)} if len(dims) else set()
    for d in chosen or range(len(dims)):
        t.freeze(dims[d])
    for output in outputs:
        if output.shape == args[0].shape:
            t._set(output, dims)


@_rule(
    "mean", "sum", "amax", "amin", "max", "min", "prod", "std", "var", "var_mean", "std_mean", "norm", "argmax",
    "linalg_vector_norm", "logsumexp", "any", "all",
)  # fmt: skip
def _reduce(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    if len(args) > 1 and isinstance(args[1], Tensor):
        return t._pointwise([x, args[1]], outputs)
    dims = t.dims(x)
    lists = [a for a in (*args[1:], kwargs.get("dim")) if isinstance(a, (tuple, list))]
    numbers = [a for a in args[1:] if isinstance(a, int) and not isinstance(a, bool)]
    over = lists[0] if lists else numbers[-1:]
    over = {int(d) % x.ndim for d in over} or set(range(x.ndim))
    for d in over:
        t.freeze(dims[d])
    for output in outputs:
        kept = output.ndim == x.ndim
        t._set(output, [None if d in over else e for d, e in enumerate(dims) if kept or d not in over])
    return None


@_rule(
    "max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool1d",
    "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact2d", "reflection_pad2d",
    "replication_pad2d", "max_pool3d_with_indices", "avg_pool3d", "upsample_nearest1d", "upsample_linear1d",
)  # fmt: skip
def _spatial(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    for labels in dims[2:]:
        t.freeze(labels)
    for output in outputs:
        t._set(output, [*dims[:2], *[None] * (output.ndim - 2)])


@_rule("constant_pad_nd")
def _pad(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims, widths = list(t.dims(args[0])), args[1]
    for i in range(len(widths) // 2):
        before, after = widths[2 * i : 2 * i + 2]
        d = len(dims) - 1 - i
        labels = dims[d]
        if labels is None or before == after == 0:
            continue
        if before < 0 or after < 0:
            t.freeze(labels)
            dims[d] = None
        else:
            dims[d] = np.concatenate([np.zeros(before, np.int64), labels, np.zeros(after, np.int64)])
    t._set(outputs[0], dims)


@_rule("view", "_unsafe_view", "reshape", "_reshape_alias", "view_as", "unflatten")
def _view(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    if args[0].numel() and args[0].dtype == outputs[0].dtype:
        t.view(args[0], outputs[0])
    else:
        t.freeze_all(args[:1])


@_rule("as_strided")
def _as_strided(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    """Follow the one use that torch makes of it: other strides after pooling to one pixel."""
    if args[0].shape == outputs[0].shape:
        t._set(outputs[0], t.dims(args[0]))
    else:
        t.freeze_all(args[:1])


@_rule("permute")
def _permute(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    t._set(outputs[0], [dims[d] for d in args[1]])


@_rule("transpose", "t", "swapaxes")
def _transpose(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    if len(dims) > 1:
        a, b = args[1:3] if len(args) > 2 else (0, 1)
        dims[a], dims[b] = dims[b], dims[a]
    t._set(outputs[0], dims)


@_rule("unsqueeze")
def _unsqueeze(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    dims.insert(args[1] % (len(dims) + 1), None)
    t._set(outputs[0], dims)


@_rule("squeeze")
def _squeeze(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    chosen = args[1] if len(args) > 1 else range(x.ndim)
    chosen = [chosen] if isinstance(chosen, int) else chosen
    gone = {d % x.ndim for d in chosen if x.shape[d] == 1}
    t._set(outputs[0], [labels for d, labels in enumerate(t.dims(x)) if d not in gone])


@_rule("expand")
def _expand(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    t._set(outputs[0], [*[None] * (outputs[0].ndim - len(dims)), *dims])


@_rule("repeat")
def _repeat(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = [*[None] * (outputs[0].ndim - args[0].ndim), *t.dims(args[0])]
    t._set(outputs[0], [e if e is None else np.tile(e, n) for e, n in zip(dims, args[1], strict=True)])


@_rule("select")
def _select(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims.pop(args[1]))
    t._set(outputs[0], dims)


@_rule("unbind")
def _unbind(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims.pop(_argument(args, kwargs, 1, "dim", 0)))
    for output in outputs:
        t._set(output, dims)


@_rule("slice", "narrow")
def _slice(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    given: tuple[Any, ...] = (*args, *(0, None, None, 1)[len(args) - 1 :])
    x, axis, start, end, step = given
    dims = list(t.dims(x))
    labels = dims[axis]
    n = x.shape[axis]
    dims[axis] = None if labels is None else labels[start:end:step]
    if outputs[0].shape[axis] != n:
        index = t.call.args[1] if t.call.name in ("__getitem__", "__setitem__") else ()
        for s in index if isinstance(index, tuple) else (index,):
            if not isinstance(s, slice):
                continue
            if isinstance(s.stop, _Marked) and s.stop == end and not start:
                t.size(s.stop, None if labels is None else labels[:end], int(s.stop))
            if isinstance(s.start, _Marked) and s.start == start:
                t.size(s.start, None if labels is None else labels[:start], int(s.start))
    t._set(outputs[0], dims)


@_rule("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk", "tensor_split")
def _split(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    axis = _argument(args, kwargs, 2, "dim", 0)
    labels = dims[axis]
    lengths = [o.shape[axis] for o in outputs]
    asked = _argument(t.call.args, t.call.kwargs, 1, "split_size_or_sections")
    sizes = list(asked) if isinstance(asked, (tuple, list)) else [asked] * len(outputs)
    parts: list[Labels | None] = [None] * len(outputs)
    if labels is not None:
        parts = list(np.split(labels, np.cumsum(lengths)[:-1]))
        own = isinstance(asked, (tuple, list)) and all(isinstance(s, _Marked) for s in sizes)
        if len(set(lengths)) == 1 and not own:  # parts of one size stay of one size
            for part in parts[1:]:
                t.tie(parts[0], part)
    for output, part, size in zip(outputs, parts, sizes, strict=False):
        t._set(output, [part if d == axis % len(dims) else e for d, e in enumerate(dims)])
        if t.call.name in ("split", "split_with_sizes"):
            t.size(size, part, output.shape[axis])


@_rule("cat")
def _cat(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    parts = [p for p in args[0] if p.numel()]
    axis = _argument(args, kwargs, 1, "dim", 0) % outputs[0].ndim
    made: list[Labels | None] = []
    for d in range(outputs[0].ndim):
        sides = [t.dims(p)[d] for p in parts]
        if d == axis:
            filled = [np.zeros(p.shape[d], np.int64) if s is None else s for p, s in zip(parts, sides, strict=True)]
            made.append(np.concatenate(filled))
        else:
            first = next((s for s in sides if s is not None), None)
            for side in sides:
                t.tie(first, side)
            made.append(first)
    t._set(outputs[0], made)


@_rule("stack")
def _stack(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    t._pointwise(args[0], outs := [outputs[0].select(_argument(args, kwargs, 1, "dim", 0), 0)])
    dims = list(t.dims(outs[0]))
    dims.insert(_argument(args, kwargs, 1, "dim", 0) % outputs[0].ndim, None)
    t._set(outputs[0], dims)


@_rule("index", "_unsafe_index")
def _index(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, indices = args[:2]
    dims = t.dims(x)
    where = [d for d, i in enumerate(indices) if i is not None]
    for d in where:
        t.freeze(dims[d])
    t.freeze_all([i for i in indices if i is not None])
    if where != list(range(where[0], where[-1] + 1)) or indices[where[0]].dtype == torch.bool:
        return t.freeze_all([x])
    added = max(i.ndim for i in indices if i is not None)
    t._set(outputs[0], [*dims[: where[0]], *[None] * added, *dims[where[-1] + 1 :]])
    return None


@_rule("index_select", "gather")
def _index_select(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims[args[1]])
    dims[args[1]] = None
    t._set(outputs[0], dims)


@_rule("unfold")
def _windows(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims[args[1]])
    dims[args[1]] = None
    t._set(outputs[0], [*dims, None])


@_rule("im2col")
def _im2col(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    for labels in dims[2:]:
        t.freeze(labels)
    channels = None if dims[1] is None else np.repeat(dims[1], math.prod(args[1]))
    t._set(outputs[0], [None, channels, None])


@_rule("col2im")
def _col2im(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels, kernel = t.dims(args[0])[1], math.prod(args[2])
    channels = None
    if labels is not None:
        table = labels.reshape(-1, kernel)
        t.tie(table, table[:, :1])
        channels = table[:, 0]
    t._set(outputs[0], [None, channels, None, None])


@_rule("pixel_unshuffle")
def _pixel_unshuffle(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    channels = None if dims[1] is None else np.repeat(dims[1], args[1] ** 2)
    t._set(outputs[0], [None, channels, None, None])


@_rule("pixel_shuffle")
def _pixel_shuffle(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels = t.dims(args[0])[1]
    channels = None
    if labels is not None:
        table = labels.reshape(-1, args[1] ** 2)
        t.tie(table, table[:, :1])
        channels = table[:, 0]
    t._set(outputs[0], [None, channels, None, None])


@_rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels = t.dims(args[0])[1]
    if labels is not None:
        table = labels.reshape(args[1], -1)
        t.tie(table, table[:1])  # each part loses the same positions
        labels = np.repeat(table[0], args[1])
    t._set(outputs[0], [None, labels, *[None] * (outputs[0].ndim - 2)])


@_rule("glu")
def _glu(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    axis = _argument(args, kwargs, 1, "dim", -1)
    labels = dims[axis]
    if labels is not None:
        half = len(labels) // 2
        t.tie(labels[:half], labels[half:])
        dims[axis] = labels[:half]
    t._set(outputs[0], dims)


@_rule(
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "scaled_dot_product_attention", "_scaled_dot_product_efficient_attention", "_scaled_dot_product_attention_math",
)  # fmt: skip
def _attention(t: _Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    q, k, v = args[:3]
    lead = [t.dims(x)[:-2] for x in (q, k, v)]
    for d in range(q.ndim - 2):
        t.tie(lead[0][d], lead[1][d])
        t.tie(lead[0][d], lead[2][d])
    for labels in (*t.dims(q)[-2:], *t.dims(k)[-2:], t.dims(v)[-2]):
        t.freeze(labels)
    mask = next((a for a in (*args[3:], *kwargs.values()) if isinstance(a, Tensor)), None)
    if mask is not None:
        for d in range(3, mask.ndim + 1):
            if mask.shape[-d] > 1:
                t.tie(t.dims(mask)[-d], t.dims(q)[-d])
        for labels in t.dims(mask)[-2:]:
            t.freeze(labels)
    t._set(outputs[0], [*lead[0], None, t.dims(v)[-1]])
