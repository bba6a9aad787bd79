"""Tidying an exported ONNX graph: what an app neither runs nor reads is taken out."""

from __future__ import annotations

import onnx

NO_OPS = ("Identity", "Dropout")


def tidy(model: onnx.ModelProto) -> None:
    """Remove no-op nodes, unused tensors and the exporter's notes from `model`, in place; what it computes stays."""
    graph = model.graph
    _bypass_no_ops(graph)
    _store_constants(graph)
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
            _rename(graph, target, source)
        elif any(source in n.output for n in graph.node) and source not in outputs:
            # The name of a graph output is part of the interface: its producer takes it over.
            node.output[0] = ""
            _rename(graph, source, target)
        else:
            continue
        graph.node.remove(node)


def _store_constants(graph: onnx.GraphProto) -> None:
    """Turn constant nodes into stored tensors, equal ones into the same: some phone runtimes read limits only there."""
    names: dict[bytes, str] = {}
    for node in [n for n in graph.node if n.op_type == "Constant" and n.attribute[0].name == "value"]:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = ""
        name = names.setdefault(tensor.SerializeToString(deterministic=True), node.output[0])
        graph.node.remove(node)
        if name != node.output[0]:
            _rename(graph, node.output[0], name)
            continue
        tensor.name = name
        graph.initializer.append(tensor)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
