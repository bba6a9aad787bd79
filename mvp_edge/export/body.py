"""The graph of a network whose weights lie beside it, under their names in torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

SAME = 1e-5  # of a tensor's largest value: two values that differ by less are one


def without_weights(model: onnx.ModelProto, state: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return a copy of an exported network without the tensors that its state has, which it calls by their names there.

    What the exporter has changed stays in the graph: the first convolution, into which it has put the scale of pixels.

    Args:
        model: Result of `export_onnx`.
        state: The network's tensors by their names in torch, norms folded.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    names: dict[str, str] = {}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        near = {k: float(np.abs(v - values).max()) for k, v in state.items() if v.shape == values.shape and v.size > 1}
        best = min(near, key=lambda k: near[k], default=None)
        if best is not None and near[best] <= SAME * float(np.abs(values).max()):
            names[tensor.name] = best
    for node in small.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    kept = [t for t in small.graph.initializer if t.name not in names]
    del small.graph.initializer[:]
    small.graph.initializer.extend(kept)
    return small
