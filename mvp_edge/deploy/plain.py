"""A delivered ONNX file in the form that converters to other runtimes begin with: few operators, constants unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mvp_edge.core.errors import ExportError

UNPACKING = ("Cast", "Mul", "Gather", "Reshape", "Slice")


@dataclass(frozen=True, eq=False)
class Plain:
    """A network of one image.

    Attributes:
        nodes: In the order of computation.
        stored: Constants by name.
        shapes: Of all tensors, by name.
        inputs: Names of the inputs: one image.
        outputs: Names of the outputs.
    """

    nodes: list[onnx.NodeProto]
    stored: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    inputs: list[str]
    outputs: list[str]

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a tensor, with an empty one more if it is an output."""
        return [n for n in self.nodes if name in n.input] + [onnx.NodeProto()] * self.outputs.count(name)

    def next(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """Return the only reader of a tensor, if it is of one of these kinds."""
        found = self.readers(name)
        return found[0] if len(found) == 1 and found[0].op_type in kinds else None


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return an attribute of a node."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def read_plain(path: Path) -> Plain:
    """Read an ONNX file whose batch is one image.

    Raises:
        ExportError: shapes are not known.
    """
    model = onnx.load(path)
    unpack(model)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False).graph
    stored = {t.name: numpy_helper.to_array(t) for t in inferred.initializer}
    shapes = {name: value.shape for name, value in stored.items()}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    _find_gelus(inferred)
    made = {name for node in inferred.node for name in node.output}
    if unknown := sorted(n for n in made if not all(shapes.get(n, (0,)))):
        raise ExportError(f"{path} has tensors of unknown shape ({unknown[0]}); convert a file that mvp-edge made")
    inputs, outputs = ([v.name for v in values] for values in (inferred.input, inferred.output))
    return Plain(list(inferred.node), stored, shapes, inputs, outputs)


def unpack(model: onnx.ModelProto) -> None:
    """Compute what depends on constants only, such as weights stored in few bytes, in place."""
    from onnx.reference import ReferenceEvaluator

    graph = model.graph
    stored = {t.name: t for t in graph.initializer}
    left = []
    for node in graph.node:
        if node.op_type not in UNPACKING or any(name not in stored for name in node.input):
            left.append(onnx.NodeProto.FromString(node.SerializeToString()))
            continue
        alone = helper.make_graph(
            [node], "constant", [], [onnx.ValueInfoProto(name=node.output[0])], [stored[n] for n in node.input]
        )
        single = helper.make_model(alone, opset_imports=model.opset_import, ir_version=model.ir_version)
        stored[node.output[0]] = numpy_helper.from_array(
            np.asarray(next(iter(cast(Any, ReferenceEvaluator(single).run(None, {}))))), node.output[0]
        )
    used = {name for node in left for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(left)
    graph.initializer.extend(t for name, t in stored.items() if name in used)


def _find_gelus(graph: onnx.GraphProto) -> None:
    """Replace `x * (1 + erf(x / sqrt(2))) * 0.5` by ONNX's own Gelu, in place."""
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    maker = {n.output[0]: n for n in graph.node}

    def reader(name: str) -> onnx.NodeProto | None:
        found = [n for n in graph.node if name in n.input]
        return found[0] if len(found) == 1 else None

    def constant(node: onnx.NodeProto, value: float) -> bool:
        return any(i in stored and stored[i].size == 1 and abs(float(stored[i]) - value) < 1e-4 for i in node.input)

    for erf in [n for n in graph.node if n.op_type == "Erf"]:
        divided, added = maker.get(erf.input[0]), reader(erf.output[0])
        product = None if added is None else reader(added.output[0])
        half = None if product is None else reader(product.output[0])
        if divided is None or added is None or product is None or half is None:
            continue
        source, kinds = divided.input[0], [n.op_type for n in (divided, added, product, half)]
        fits = constant(divided, sqrt(2)) and constant(added, 1) and source in product.input and constant(half, 0.5)
        if kinds == ["Div", "Add", "Mul", "Mul"] and fits:
            for node in (divided, erf, added, product):
                graph.node.remove(node)
            half.CopyFrom(helper.make_node("Gelu", [source], list(half.output), half.name))


def rounds_up(plain: Plain, node: onnx.NodeProto) -> bool:
    """Whether a pool gives more than the whole windows of its padded input."""
    size, strides = attribute(node, "kernel_shape", [1, 1]), attribute(node, "strides", [1, 1])
    pads, given, made = attribute(node, "pads", [0] * 4), plain.shapes[node.input[0]], plain.shapes[node.output[0]]
    whole = [(given[2 + k] + pads[k] + pads[2 + k] - size[k]) // strides[k] + 1 for k in range(2)]
    return list(made[2:]) != whole


def refuse(node: onnx.NodeProto, target: str, why: str = "") -> ExportError:
    """Return the error about a node that cannot be converted."""
    reason = f" ({why})" if why else ""
    return ExportError(f"{node.op_type} {node.name}{reason} cannot be converted to {target}; use --target ort")


def integers(stored: dict[str, np.ndarray], node: onnx.NodeProto, place: int, name: str) -> Sequence[int] | None:
    """Return integers of a node that are an input in newer operator sets and an attribute in older ones."""
    if len(node.input) > place and node.input[place]:
        return [int(v) for v in stored[node.input[place]].ravel()]
    return attribute(node, name, None)
