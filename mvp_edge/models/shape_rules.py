"""How labels pass operators that move values: views, slices, joins, indices, windows and shuffles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mvp_edge.models.marks import Marked
from mvp_edge.models.ties import Labels
from mvp_edge.models.tracer import Rules, Tracer, argument
from mvp_edge.models.views import view

RULES = Rules()


@RULES("copy")
def _copy(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    target, source = args[0], args[1]
    for d in range(1, source.ndim + 1):
        if source.shape[-d] == target.shape[-d]:
            t.tie(t.dims(target)[-d], t.dims(source)[-d])
    if not any(labels is not None for labels in t.dims(target)) and target.shape == source.shape:
        t.set_dims(outputs[0], t.dims(source))


@RULES("constant_pad_nd")
def _pad(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
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
    t.set_dims(outputs[0], dims)


@RULES("view", "_unsafe_view", "reshape", "_reshape_alias", "view_as", "unflatten")
def _view(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    if args[0].numel() and args[0].dtype == outputs[0].dtype:
        view(t, args[0], outputs[0])
    else:
        t.freeze_all(args[:1])


@RULES("as_strided")
def _as_strided(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    """Follow the one use that torch makes of it: other strides after pooling to one pixel."""
    if args[0].shape == outputs[0].shape:
        t.set_dims(outputs[0], t.dims(args[0]))
    else:
        t.freeze_all(args[:1])


@RULES("permute")
def _permute(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    t.set_dims(outputs[0], [dims[d] for d in args[1]])


@RULES("transpose", "t", "swapaxes")
def _transpose(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    if len(dims) > 1:
        a, b = args[1:3] if len(args) > 2 else (0, 1)
        dims[a], dims[b] = dims[b], dims[a]
    t.set_dims(outputs[0], dims)


@RULES("unsqueeze")
def _unsqueeze(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    dims.insert(args[1] % (len(dims) + 1), None)
    t.set_dims(outputs[0], dims)


@RULES("squeeze")
def _squeeze(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    chosen = args[1] if len(args) > 1 else range(x.ndim)
    chosen = [chosen] if isinstance(chosen, int) else chosen
    gone = {d % x.ndim for d in chosen if x.shape[d] == 1}
    t.set_dims(outputs[0], [labels for d, labels in enumerate(t.dims(x)) if d not in gone])


@RULES("expand")
def _expand(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    t.set_dims(outputs[0], [*[None] * (outputs[0].ndim - len(dims)), *dims])


@RULES("repeat")
def _repeat(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = [*[None] * (outputs[0].ndim - args[0].ndim), *t.dims(args[0])]
    t.set_dims(outputs[0], [e if e is None else np.tile(e, n) for e, n in zip(dims, args[1], strict=True)])


@RULES("select")
def _select(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims.pop(args[1]))
    t.set_dims(outputs[0], dims)


@RULES("unbind")
def _unbind(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims.pop(argument(args, kwargs, 1, "dim", 0)))
    for output in outputs:
        t.set_dims(output, dims)


@RULES("slice", "narrow")
def _slice(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
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
            if isinstance(s.stop, Marked) and s.stop == end and not start:
                t.size(s.stop, None if labels is None else labels[:end], int(s.stop))
            if isinstance(s.start, Marked) and s.start == start:
                t.size(s.start, None if labels is None else labels[:start], int(s.start))
    t.set_dims(outputs[0], dims)


@RULES("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk", "tensor_split")
def _split(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    axis = argument(args, kwargs, 2, "dim", 0)
    labels = dims[axis]
    lengths = [o.shape[axis] for o in outputs]
    asked = argument(t.call.args, t.call.kwargs, 1, "split_size_or_sections")
    sizes = list(asked) if isinstance(asked, (tuple, list)) else [asked] * len(outputs)
    parts: list[Labels | None] = [None] * len(outputs)
    if labels is not None:
        parts = list(np.split(labels, np.cumsum(lengths)[:-1]))
        own = isinstance(asked, (tuple, list)) and all(isinstance(s, Marked) for s in sizes)
        if len(set(lengths)) == 1 and not own:  # parts of one size stay of one size
            for part in parts[1:]:
                t.tie(parts[0], part)
    for output, part, size in zip(outputs, parts, sizes, strict=False):
        t.set_dims(output, [part if d == axis % len(dims) else e for d, e in enumerate(dims)])
        if t.call.name in ("split", "split_with_sizes"):
            t.size(size, part, output.shape[axis])


@RULES("cat")
def _cat(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    parts = [p for p in args[0] if p.numel()]
    axis = argument(args, kwargs, 1, "dim", 0) % outputs[0].ndim
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
    t.set_dims(outputs[0], made)


@RULES("stack")
def _stack(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    t.pointwise(args[0], outs := [outputs[0].select(argument(args, kwargs, 1, "dim", 0), 0)])
    dims = list(t.dims(outs[0]))
    dims.insert(argument(args, kwargs, 1, "dim", 0) % outputs[0].ndim, None)
    t.set_dims(outputs[0], dims)


@RULES("index", "_unsafe_index")
def _index(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, indices = args[:2]
    dims = t.dims(x)
    where = [d for d, i in enumerate(indices) if i is not None]
    for d in where:
        t.freeze(dims[d])
    t.freeze_all([i for i in indices if i is not None])
    if where != list(range(where[0], where[-1] + 1)) or indices[where[0]].dtype == torch.bool:
        return t.freeze_all([x])
    added = max(i.ndim for i in indices if i is not None)
    t.set_dims(outputs[0], [*dims[: where[0]], *[None] * added, *dims[where[-1] + 1 :]])
    return None


@RULES("index_select", "gather")
def _index_select(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims[args[1]])
    dims[args[1]] = None
    t.set_dims(outputs[0], dims)


@RULES("unfold")
def _windows(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    t.freeze(dims[args[1]])
    dims[args[1]] = None
    t.set_dims(outputs[0], [*dims, None])


@RULES("im2col")
def _im2col(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    for labels in dims[2:]:
        t.freeze(labels)
    channels = None if dims[1] is None else np.repeat(dims[1], math.prod(args[1]))
    t.set_dims(outputs[0], [None, channels, None])


@RULES("col2im")
def _col2im(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels, kernel = t.dims(args[0])[1], math.prod(args[2])
    channels = None
    if labels is not None:
        table = labels.reshape(-1, kernel)
        t.tie(table, table[:, :1])
        channels = table[:, 0]
    t.set_dims(outputs[0], [None, channels, None, None])


@RULES("pixel_unshuffle")
def _pixel_unshuffle(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    channels = None if dims[1] is None else np.repeat(dims[1], args[1] ** 2)
    t.set_dims(outputs[0], [None, channels, None, None])


@RULES("pixel_shuffle")
def _pixel_shuffle(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels = t.dims(args[0])[1]
    channels = None
    if labels is not None:
        table = labels.reshape(-1, args[1] ** 2)
        t.tie(table, table[:, :1])
        channels = table[:, 0]
    t.set_dims(outputs[0], [None, channels, None, None])


@RULES("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    labels = t.dims(args[0])[1]
    if labels is not None:
        table = labels.reshape(args[1], -1)
        t.tie(table, table[:1])  # each part loses the same positions
        labels = np.repeat(table[0], args[1])
    t.set_dims(outputs[0], [None, labels, *[None] * (outputs[0].ndim - 2)])
