"""TensorFlow's `same` padding as a constant of each convolution: timm computes it from the image at run time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import Tensor, nn
from torch.nn import functional as F


class _FixedSame(Conv2dSame):
    def forward(self, images: Tensor) -> Tensor:
        conv = cast(nn.Conv2d, self)
        height, width = (
            int(get_same_padding(int(images.shape[2 + d]), conv.kernel_size[d], conv.stride[d], conv.dilation[d]))
            for d in (0, 1)
        )
        padded = F.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


@contextmanager
def fixed_padding(model: nn.Module) -> Iterator[None]:
    """Let convolutions pad for the image's size as a number for a while: what is traced then computes no shape."""
    found = [module for module in model.modules() if type(module) is Conv2dSame]
    for module in found:
        cast(Any, module).__class__ = _FixedSame
    try:
        yield
    finally:
        for module in found:
            cast(Any, module).__class__ = Conv2dSame


def fold_padding(model: onnx.ModelProto) -> None:
    """Turn a padding with zeros before a convolution into the convolution's own, in place."""
    graph = model.graph
    _fold_amounts(model)
    stored = {t.name: t for t in graph.initializer}
    for conv in [n for n in graph.node if n.op_type == "Conv"]:
        pad = next((n for n in graph.node if n.op_type == "Pad" and n.output[0] == conv.input[0]), None)
        if pad is None or sum(list(n.input).count(conv.input[0]) for n in graph.node) > 1:
            continue
        own = {a.name: helper.get_attribute_value(a) for a in (*pad.attribute, *conv.attribute)}
        zero = len(pad.input) < 3 or not pad.input[2] or _is_zero(stored.get(pad.input[2]))
        if own.get("mode", b"constant") != b"constant" or own.get("auto_pad", b"NOTSET") != b"NOTSET" or not zero:
            continue
        if pad.input[1] not in stored or len(pad.input) > 3:
            continue
        before, after = np.split(numpy_helper.to_array(stored[pad.input[1]]), 2)
        if before[:2].any() or after[:2].any():
            continue
        total = np.concatenate([before[2:], after[2:]]) + np.array(own.get("pads", [0] * 4))
        kept = [a for a in conv.attribute if a.name != "pads"]
        del conv.attribute[:]
        conv.attribute.extend([*kept, helper.make_attribute("pads", total.tolist())])
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)


def _fold_amounts(model: onnx.ModelProto) -> None:
    """Compute what torch writes as a dozen nodes around the constants of a padding."""
    amounts = {n.input[1] for n in model.graph.node if n.op_type == "Pad"}
    stored = {t.name: t for t in model.graph.initializer}
    needed: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if amounts.intersection(node.output):
            needed.append(node)
            amounts.update(node.input)
    outputs = {n.input[1] for n in model.graph.node if n.op_type == "Pad"} - stored.keys()
    constant = all(name in stored or any(name in n.output for n in needed) for n in needed for name in n.input if name)
    if not outputs or not constant:
        return
    read = {name for n in needed for name in n.input}
    part = helper.make_graph(
        needed[::-1], "amounts", [], [helper.make_empty_tensor_value_info(name) for name in sorted(outputs)],
        [t for name, t in stored.items() if name in read],
    )  # fmt: skip
    small = helper.make_model(part, opset_imports=model.opset_import)
    for name, values in zip(sorted(outputs), ReferenceEvaluator(small).run(None, {}), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
    kept = [n for n in model.graph.node if not any(n is m or n.output == m.output for m in needed)]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _is_zero(tensor: onnx.TensorProto | None) -> bool:
    return tensor is not None and not numpy_helper.to_array(tensor).any()
