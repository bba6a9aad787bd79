"""ONNX graphs: tidying, folding of the image's normalisation, readable names, and an inventory of a file."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from mvp_edge.core.errors import ExportError

NO_OPS = ("Identity", "Dropout")


def last_gemm(graph: onnx.GraphProto) -> onnx.NodeProto:
    """Return the last linear layer of a graph that has one; its inputs are features, weight and bias."""
    return next(n for n in reversed(graph.node) if n.op_type == "Gemm")


def tidy(model: onnx.ModelProto) -> None:
    """Remove no-op nodes, unused and repeated tensors, unused operator sets and notes from `model`, in place."""
    graph = model.graph
    _bypass_no_ops(graph)
    _store_constants(graph)
    _share_tensors(graph)
    domains = {"", "ai.onnx", *(node.domain for node in graph.node)}
    for index in reversed(range(len(model.opset_import))):
        if model.opset_import[index].domain not in domains:
            del model.opset_import[index]
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in used:
            del graph.initializer[index]
    del graph.value_info[:]
    for message in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        message.ClearField("doc_string")
        message.ClearField("metadata_props")


def _bypass_no_ops(graph: onnx.GraphProto) -> None:
    outputs = {output.name for output in graph.output}
    for node in [n for n in graph.node if n.op_type in NO_OPS]:
        source, target = node.input[0], node.output[0]
        if target not in outputs:
            rename_tensors(graph, {target: source})
        elif any(source in n.output for n in graph.node) and source not in outputs:
            # The name of a graph output is part of the interface, so its producer gets that name.
            node.output[0] = ""
            rename_tensors(graph, {source: target})
        else:
            continue
        graph.node.remove(node)


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turn constant nodes into stored tensors: some phone runtimes read the limits of Clip only there."""
    for node in [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)


def _share_tensors(graph: onnx.GraphProto) -> None:
    """Replace equal tensors, such as the zero points of a quantised model, by one of them."""
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        content = onnx.TensorProto()
        content.CopyFrom(tensor)
        for field in ("name", "doc_string", "metadata_props"):
            content.ClearField(field)
        same[tensor.name] = first.setdefault(content.SerializeToString(deterministic=True), tensor.name)
    rename_tensors(graph, {old: new for old, new in same.items() if old != new})


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node after those that make its inputs, in place; a graph in order stays as it is."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs = {i: {makers[name] for name in node.input if name in makers} for i, node in enumerate(graph.node)}
    if all(max(before, default=-1) < index for index, before in needs.items()):
        return
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend(copies[index] for index in TopologicalSorter(needs).static_order())


def rename_tensors(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors in the inputs and outputs of all nodes."""
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]


def fold_normalisation(graph: onnx.GraphProto) -> None:
    """Turn `conv((image - mean) * scale)` into `conv'(image - mean)`, in place.

    The scale goes into the weights, which is exact: padding is 0, and 0 times the scale is 0. The mean goes into the
    bias only where the convolution has no padding, as in a patch embedding. Elsewhere padding means the mean colour, so
    that folding would change the borders.
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
    """Return the node with output `name` and its constant second operand, if only one node reads `name`."""
    node = next((n for n in graph.node if name in n.output and n.op_type == operator), None)
    if node is None or _readers(graph, name) > 1:
        return None
    values = _tensor(graph, node.input[1])
    # A normalisation has one value, or one per channel of (N, C, H, W).
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


ROOT = "model"  # attribute of the wrapper that holds the network
QUANTISER = (
    ("_DequantizeLinear", ".dq"),
    ("_QuantizeLinear", ".q"),
    ("_quantized", ".int"),
    ("_zero_point", ".z"),
    ("_scale", ".s"),
    ("_Output", ""),
    ("_Input", ".in"),
)
ROLES = {"Conv": ("", "w", "b"), "Gemm": ("", "w", "b"), "MatMul": ("", "w")}


def name_by_module(graph: onnx.GraphProto) -> None:
    """Name every node after its module, its output likewise and its weights after the node, in place.

    `/model/layer1/layer1.0/conv1/Conv` becomes `layer1.0.conv1`. A runtime that fuses nodes keeps the name of one node
    or of its output; equal names keep profiles readable. Inputs and outputs of the graph keep their names.
    """
    fixed = {value.name for value in (*graph.input, *graph.output)}
    scopes = Counter(_scope(node.name) for node in graph.node)
    taken: Counter[str] = Counter(fixed)
    names: dict[str, str] = {}
    stored = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        scope = _scope(node.name)
        leaf = node.name.rpartition("/")[2] or node.op_type
        node.name = _unique(scope if scope and scopes[scope] == 1 else ".".join(filter(None, (scope, leaf))), taken)
        for index, output in enumerate(node.output):
            if output and output not in fixed:
                names[output] = node.name if index == 0 else f"{node.name}:{index}"
    for node in graph.node:
        for index, tensor in enumerate(node.input):
            if tensor in stored and tensor not in names:
                roles = ROLES.get(node.op_type, ())
                names[tensor] = _unique(f"{node.name}.{roles[index] if index < len(roles) else index}", taken)
    _rename(graph, names)


def shorten_quantised(graph: onnx.GraphProto) -> None:
    """Shorten the name endings of the quantiser, in place: they are a tenth of a small file's bytes."""
    fixed = {value.name for value in (*graph.input, *graph.output)}
    known = {name for node in graph.node for name in (*node.input, *node.output)} - fixed
    taken: Counter[str] = Counter(fixed)
    names = {name: _unique(_short(name), taken) for name in sorted(known) if name}
    for node in graph.node:
        node.name = _short(node.name)
    _rename(graph, names)


def _short(name: str) -> str:
    for long, short in QUANTISER:
        name = name.replace(long, short)
    return name


def _scope(name: str) -> str:
    """Return the dotted module path of a node named by torch, whose scopes repeat the names of containers."""
    parts: list[str] = []
    for part in name.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts[1:] if parts[:1] == [ROOT] else parts)


def _unique(name: str, taken: Counter[str]) -> str:
    taken[name] += 1
    return name if taken[name] == 1 else _unique(f"{name}_{taken[name]}", taken)


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    rename_tensors(graph, names)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


@dataclass(frozen=True)
class Inventory:
    """Contents of an ONNX file.

    Attributes:
        operators: Count of each operator, most frequent first; other domains than ONNX's own are written
            `domain:Operator`.
        parameter_bytes: Bytes of the stored tensors.
        file_bytes: Bytes of the file.
        opset: ONNX operator set.
        largest_rank: Largest number of dimensions of any tensor; several phone runtimes support at most four.
    """

    operators: dict[str, int]
    parameter_bytes: int
    file_bytes: int
    opset: int
    largest_rank: int


def take_inventory(path: Path) -> Inventory:
    """Return the contents of an ONNX file.

    Raises:
        ExportError: the file is missing or not an ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as e:  # protobuf's errors share no other base class
        raise ExportError(f"{path} cannot be read as an ONNX model; make one with: mvp-edge prune") from e
    counts = Counter(f"{n.domain}:{n.op_type}" if n.domain else n.op_type for n in model.graph.node)
    return Inventory(
        operators=dict(sorted(counts.items(), key=lambda c: (-c[1], c[0]))),
        parameter_bytes=sum(_bytes(tensor) for tensor in model.graph.initializer),
        file_bytes=path.stat().st_size,
        opset=next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0),
        largest_rank=_largest_rank(model),
    )


def _largest_rank(model: onnx.ModelProto) -> int:
    """Return the largest known rank; shapes after an operator of another domain are unknown."""
    graph = model.graph
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    ranks = [len(v.type.tensor_type.shape.dim) for v in values] + [len(t.dims) for t in graph.initializer]
    return max(ranks, default=0)


def _bytes(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
