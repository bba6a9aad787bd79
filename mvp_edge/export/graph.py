"""Tidying an exported ONNX graph: what an app neither runs nor reads is taken out."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter

import onnx

NO_OPS = ("Identity", "Dropout")


def tidy(model: onnx.ModelProto) -> None:
    """Remove what neither computes nor is read from `model`, in place; what it computes stays.

    That is: no-op nodes, unused and repeated tensors, operator sets of which no operator is used, and notes.
    """
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
            # The name of a graph output is part of the interface: its producer takes it over.
            node.output[0] = ""
            rename_tensors(graph, {source: target})
        else:
            continue
        graph.node.remove(node)


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turn constant nodes into stored tensors: some phone runtimes read limits only there."""
    for node in [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)


def _share_tensors(graph: onnx.GraphProto) -> None:
    """Let nodes read one tensor where several are equal, as the zero points of a quantised model are."""
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
    """Give tensors other names wherever a node reads or makes them."""
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
