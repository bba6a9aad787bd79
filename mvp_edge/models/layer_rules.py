"""How labels pass operators that compute: products, norms, reductions, pooling and attention."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from mvp_edge.models.ties import Labels
from mvp_edge.models.tracer import Rules, Tracer, argument

WHOLE_GROUPS = 8  # from so many groups on a grouped convolution loses whole ones; below, each loses the same channels
RULES = Rules()


@RULES("convolution", "mkldnn_convolution", "_convolution")
def _convolution(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
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
    elif transposed or (channels is None and weight.shape[0] == groups) or weight not in t.made_of_weights:
        t.freeze_all([x, weight])
    else:
        _grouped(t, weight, channels, ins, outs, groups, x.shape[1])
    if bias is not None:
        t.tie(t.dims(bias)[0], outs)
    t.set_dims(outputs[0], [None, outs, *[None] * (outputs[0].ndim - 2)])


def _grouped(
    t: Tracer, weight: Tensor, channels: Labels | None, ins: Labels | None, outs: Labels | None, groups: int, wide: int
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
            t.count((owner, "groups", None), taken[:, 0])
    else:
        t.tie(taken, ins)
        t.tie(made, made[:1])


@RULES("mm", "bmm", "matmul")
def _product(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    _multiply(t, args[0], args[1], outputs[0])


@RULES("addmm", "baddbmm")
def _sum_and_product(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    _multiply(t, args[1], args[2], outputs[0])
    t.pointwise([outputs[0], args[0]], outputs)


def _multiply(t: Tracer, a: Tensor, b: Tensor, output: Tensor) -> None:
    left, right = t.dims(a), t.dims(b)
    t.contract(a, b, left[-1], right[-2])
    made: list[Labels | None] = [None] * output.ndim
    for d in range(output.ndim - 2):
        t.tie(left[d], right[d])
        made[d] = left[d] if left[d] is not None else right[d]
    t.set_dims(output, [*made[:-2], left[-2], right[-1]])
    _note_linear(t, a, b, left[-1])


def _note_linear(t: Tracer, a: Tensor, b: Tensor, channels: Labels | None) -> None:
    """Note what a linear layer takes; its weight arrives transposed."""
    weight = b._base if b._base is not None else b
    if t.owner(weight) is not None:
        t.note_input(weight, channels)


@RULES("linear")
def _linear(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x, weight = args[:2]
    bias = argument(args, kwargs, 2, "bias")
    outs, ins = t.dims(weight)
    t.contract(x, weight, t.dims(x)[-1], ins)
    t.note_input(weight, t.dims(x)[-1])
    if bias is not None:
        t.tie(t.dims(bias)[0], outs)
    t.set_dims(outputs[0], [*t.dims(x)[:-1], outs])


@RULES(
    "native_batch_norm", "batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
)  # fmt: skip
def _batch_norm(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    dims = t.dims(x)
    for d, labels in enumerate(dims):
        if d != 1:
            t.freeze(labels)
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            t.tie(t.dims(tensor)[0], dims[1])
    t.set_dims(outputs[0], dims)


@RULES("native_layer_norm", "native_group_norm", "_fused_rms_norm")
def _whole_norm(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    """Handle norms outside of a layer of their own: what they take statistics over stays."""
    shape = args[1] if isinstance(args[1], (tuple, list)) else None
    dims = t.dims(args[0])
    over = range(len(dims) - len(shape), len(dims)) if shape is not None else range(1, len(dims))
    for d in over:
        t.freeze(dims[d])
    t.freeze_all([a for a in args[1:] if isinstance(a, Tensor)])
    t.set_dims(outputs[0], [None if d in over else labels for d, labels in enumerate(dims)])


@RULES("_softmax", "_safe_softmax", "_log_softmax", "cumsum", "flip", "roll", "sort", "topk", "tril", "triu")
def _along(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
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
            t.set_dims(output, dims)


@RULES(
    "mean", "sum", "amax", "amin", "max", "min", "prod", "std", "var", "var_mean", "std_mean", "norm", "argmax",
    "linalg_vector_norm", "logsumexp", "any", "all",
)  # fmt: skip
def _reduce(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    x = args[0]
    if len(args) > 1 and isinstance(args[1], Tensor):
        return t.pointwise([x, args[1]], outputs)
    dims = t.dims(x)
    lists = [a for a in (*args[1:], kwargs.get("dim")) if isinstance(a, (tuple, list))]
    numbers = [a for a in args[1:] if isinstance(a, int) and not isinstance(a, bool)]
    over = lists[0] if lists else numbers[-1:]
    over = {int(d) % x.ndim for d in over} or set(range(x.ndim))
    for d in over:
        t.freeze(dims[d])
    for output in outputs:
        kept = output.ndim == x.ndim
        t.set_dims(output, [None if d in over else e for d, e in enumerate(dims) if kept or d not in over])
    return None


@RULES(
    "max_pool2d_with_indices", "max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool1d",
    "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d",
    "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact2d", "reflection_pad2d",
    "replication_pad2d", "max_pool3d_with_indices", "avg_pool3d", "upsample_nearest1d", "upsample_linear1d",
)  # fmt: skip
def _spatial(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = t.dims(args[0])
    for labels in dims[2:]:
        t.freeze(labels)
    for output in outputs:
        t.set_dims(output, [*dims[:2], *[None] * (output.ndim - 2)])


@RULES("glu")
def _glu(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
    dims = list(t.dims(args[0]))
    axis = argument(args, kwargs, 1, "dim", -1)
    labels = dims[axis]
    if labels is not None:
        half = len(labels) // 2
        t.tie(labels[:half], labels[half:])
        dims[axis] = labels[:half]
    t.set_dims(outputs[0], dims)


@RULES(
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "scaled_dot_product_attention", "_scaled_dot_product_efficient_attention", "_scaled_dot_product_attention_math",
)  # fmt: skip
def _attention(t: Tracer, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
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
    t.set_dims(outputs[0], [*lead[0], None, t.dims(v)[-1]])
