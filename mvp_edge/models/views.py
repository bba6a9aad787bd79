"""How labels pass a change of shape: dimensions that are merged or split, such as channels into heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mvp_edge.models.marks import Marked
from mvp_edge.models.ties import Labels
from mvp_edge.models.tracer import Tracer


def view(t: Tracer, x: Tensor, output: Tensor) -> None:
    """Follow labels through a change of shape."""
    asked = _asked_shape(t, output)
    made: list[Labels | None] = [None] * output.ndim
    for ins, outs in _blocks(x.shape, output.shape):
        shape = [output.shape[d] for d in outs]
        labels = _merged(t, [(t.dims(x)[d], x.shape[d]) for d in ins])
        if labels is None:
            continue
        axis = _carrier(t, labels.reshape(shape), [asked[d] for d in outs])
        table = np.moveaxis(labels.reshape(shape), axis, 0).reshape(shape[axis], -1)
        t.tie(table, table[:, :1])
        made[outs[axis]] = table[:, 0]
    t.set_dims(output, made)
    for d, value in enumerate(asked):
        t.size(value, t.dims(output)[d], output.shape[d])


def _merged(t: Tracer, sides: list[tuple[Labels | None, int]]) -> Labels | None:
    """Return the labels of dimensions laid out as one; where two have labels, the longer ones are kept."""
    carried = max((labels for labels, _ in sides if labels is not None), key=len, default=None)
    if carried is None:
        return None
    shape = [n for _, n in sides]
    axis = next(d for d, (labels, _) in enumerate(sides) if labels is carried)
    for d, (labels, _) in enumerate(sides):
        if d != axis:
            t.freeze(labels)
    alone = carried.reshape([-1 if d == axis else 1 for d in range(len(shape))])
    return np.broadcast_to(alone, shape).reshape(-1)


def _carrier(t: Tracer, table: Labels, asked: list[Any]) -> int:
    """Return the dimension along which units are told apart after one dimension was split into several."""
    if table.ndim == 1:
        return 0
    now = t.find(table)
    for axis in range(table.ndim):
        alone = now[tuple(slice(None) if d == axis else slice(1) for d in range(table.ndim))]
        if (alone != alone.flat[0]).any() and (now == alone).all():
            return axis
    heads = [d for d, v in enumerate(asked) if isinstance(v, Marked) and "head" in v.place[1]]
    heads = [d for d in heads if "dim" not in asked[d].place[1]]
    if heads:
        t.note_attention(asked[heads[0]].place[0])
        return heads[0]
    live = [d for d, v in enumerate(asked) if not isinstance(v, Marked)]
    return max(live or range(table.ndim), key=lambda d: table.shape[d])


def _asked_shape(t: Tracer, output: Tensor) -> list[Any]:
    """Return the sizes that the network's own code gave, None where it gave none."""
    nothing: list[Any] = [None] * output.ndim
    name, args = t.call.name, t.call.args
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
