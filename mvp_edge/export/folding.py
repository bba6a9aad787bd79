"""Folding the normalisation of the image into the first convolution, as far as that is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def fold_normalisation(graph: onnx.GraphProto) -> None:
    """Turn `conv((image - mean) * scale)` into `conv'(image - mean)`, in place.

    The scale goes into the weights: padding stands for 0, and 0 times the scale is 0. The mean goes into the bias only
    where the convolution pads nothing, as a patch embedding does; elsewhere the padding stands for the mean colour
    before the subtraction, so that it would have to be another constant for each channel, and folding would change
    the borders.
    """
    for conv in [n for n in graph.node if n.op_type == "Conv" and _attribute(n, "group", 1) == 1]:
        scale = _operand(graph, conv.input[0], "Mul")
        if scale is None:
            continue
        node, values = scale
        weight = _tensor(graph, conv.input[1])
        if weight is None or values.size not in (1, weight.shape[1]) or _readers(graph, conv.input[1]) > 1:
            continue
        weight = weight * values.reshape(1, -1, 1, 1)
        _store(graph, conv.input[1], weight)
        conv.input[0] = node.input[0]
        graph.node.remove(node)
        _fold_mean(graph, conv, weight)


def _fold_mean(graph: onnx.GraphProto, conv: onnx.NodeProto, weight: np.ndarray) -> None:
    shift = _operand(graph, conv.input[0], "Sub")
    if shift is None or any(_attribute(conv, "pads", [0])) or _attribute(conv, "auto_pad", b"NOTSET") != b"NOTSET":
        return
    node, values = shift
    if values.size not in (1, weight.shape[1]):
        return
    offset = (weight * values.reshape(1, -1, 1, 1)).sum(axis=(1, 2, 3), dtype=np.float64)
    if len(conv.input) > 2 and conv.input[2]:
        bias = _tensor(graph, conv.input[2])
        if bias is None or _readers(graph, conv.input[2]) > 1:
            return
        _store(graph, conv.input[2], bias - offset)
    else:
        name = f"{conv.input[1]}.offset"
        graph.initializer.append(numpy_helper.from_array((-offset).astype(np.float32), name))
        conv.input[:] = [*conv.input[:2], name]
    conv.input[0] = node.input[0]
    graph.node.remove(node)


def _operand(graph: onnx.GraphProto, name: str, operator: str) -> tuple[onnx.NodeProto, np.ndarray] | None:
    """Return the node that makes `name` and its constant second operand, if only one node reads `name`."""
    node = next((n for n in graph.node if name in n.output and n.op_type == operator), None)
    if node is None or _readers(graph, name) > 1:
        return None
    values = _tensor(graph, node.input[1])
    # By channel of an image (N, C, H, W): anything else is no normalisation.
    if values is None or (values.size > 1 and values.shape[-3:] != (values.size, 1, 1)):
        return None
    return node, values


def _readers(graph: onnx.GraphProto, name: str) -> int:
    return sum(list(n.input).count(name) for n in graph.node) + sum(o.name == name for o in graph.output)


def _tensor(graph: onnx.GraphProto, name: str) -> np.ndarray | None:
    return next((numpy_helper.to_array(t) for t in graph.initializer if t.name == name), None)


def _store(graph: onnx.GraphProto, name: str, values: np.ndarray) -> None:
    tensor = next(t for t in graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
