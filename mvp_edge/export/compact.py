"""Weights stored in few bytes and unpacked once, when a runtime loads the file: it computes in float32 as ever.

Levels are cast and scaled, codes are looked up in their codebook. Runtimes do that before the first image, as all
inputs are constants. `DequantizeLinear` would say the same, but ONNX Runtime repeats it for every image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mvp_edge.core.packed import Packed, Stored, along

LEAST = 256  # values; smaller tensors are stored as they are


def store_compactly(model: onnx.ModelProto, stored: Mapping[str, Stored]) -> None:
    """Replace float32 tensors of a model by their stored forms and what unpacks them, in place.

    Args:
        model: Its tensors have the values of the stored forms.
        stored: Forms by the names of tensors; those of other tensors, and of small ones, are ignored.
    """
    graph = model.graph
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    small = _Unpacking(graph)
    for tensor in [t for t in graph.initializer if t.name in stored and np.prod(t.dims) >= LEAST]:
        form = stored[tensor.name]
        if isinstance(form, Packed) or form.dtype == np.float16:
            graph.initializer.remove(tensor)
            small.add(tensor.name, form)
    del graph.node[:]
    graph.node.extend([*small.nodes, *nodes])


def halve(model: onnx.ModelProto) -> None:
    """Store the float32 tensors of a model in half precision, in place; it computes in float32."""
    tensors = {t.name: t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    store_compactly(model, {n: numpy_helper.to_array(t).astype(np.float16) for n, t in tensors.items()})


class _Unpacking:
    """Collects the nodes that unpack tensors of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph, self.nodes = graph, list[onnx.NodeProto]()

    def add(self, name: str, form: Stored) -> None:
        """Add what computes the tensor `name` from its stored form."""
        if not isinstance(form, Packed):
            self._node("Cast", [self._tensor(f"{name}.half", form)], name, to=onnx.TensorProto.FLOAT)
        elif form.book is None:
            whole = self._node(
                "Cast", [self._tensor(f"{name}.int", form.levels)], f"{name}.levels", to=onnx.TensorProto.FLOAT
            )
            scale = self._tensor(f"{name}.scale", along(form.scale, form.levels).astype(np.float32))
            self._node("Mul", [whole, scale], name)
        else:
            self._looked_up(name, form, form.book)

    def _looked_up(self, name: str, form: Packed, book: np.ndarray) -> None:
        """Add what looks codes up: a matrix of vectors, its rows without what is superfluous, scaled."""
        rows, columns = form.shape[0], int(np.prod(form.shape[1:]))
        codes = self._node(
            "Cast", [self._tensor(f"{name}.code", form.levels)], f"{name}.codes", to=onnx.TensorProto.INT32
        )
        vectors = self._node("Cast", [self._tensor(f"{name}.half", book)], f"{name}.book", to=onnx.TensorProto.FLOAT)
        found = self._node("Gather", [vectors, codes], f"{name}.found")
        whole = form.levels.shape[1] * book.shape[1]
        found = self._node("Reshape", [found, self._tensor(f"{name}.rows", np.array([rows, whole]))], f"{name}.flat")
        if whole > columns:
            ends = [self._tensor(f"{name}.{k}", np.array([v])) for k, v in (("from", 0), ("to", columns), ("axis", 1))]
            found = self._node("Slice", [found, *ends], f"{name}.cut")
        scale = self._tensor(f"{name}.scale", form.scale[:, None])
        if form.scale.dtype == np.float16:
            scale = self._node("Cast", [scale], f"{name}.scales", to=onnx.TensorProto.FLOAT)
        found = self._node("Mul", [found, scale], f"{name}.scaled")
        self._node("Reshape", [found, self._tensor(f"{name}.shape", np.array(form.shape))], name)

    def _tensor(self, name: str, values: np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output
