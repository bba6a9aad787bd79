"""Names in an exported graph that a person can read in a profile, and that cost few bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx

from mvp_edge.export.graph import rename_tensors

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
    """Call every node by its module, its output likewise and its tensors after it, in place.

    `/model/layer1/layer1.0/conv1/Conv` becomes `layer1.0.conv1`. A runtime that fuses nodes keeps the name of one of
    them, or of its output; with both alike a profile can be read. Inputs and outputs of the graph keep their names.
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
    """Shorten the endings that the quantiser gives to names, in place: they are a tenth of a small file's bytes."""
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
