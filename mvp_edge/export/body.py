"""The graph of a network whose weights lie beside it, under their names in torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

SAME = 1e-5  # of a tensor's largest value: two values that differ by less are one


def without_weights(model: onnx.ModelProto, state: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return a copy of an exported network without the tensors that its state has, which it calls by their names there.

    Matrices that the exporter has transposed are transposed in the graph. What it has changed otherwise stays in the
    graph: the first convolution, into which it has put the scale of pixels, or the parts of an attention layer.

    Args:
        model: Result of `export_onnx`.
        state: The network's tensors by their names in torch, norms folded.
    """
    small = onnx.ModelProto()
    small.CopyFrom(model)
    names: dict[str, str] = {}
    turned: dict[str, str] = {}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if (best := _namesake(tensor.name, values, state)) is not None:
            names[tensor.name] = best
        elif values.ndim == 2 and (best := _namesake(tensor.name, values.T, state)) is not None:
            names[tensor.name] = turned[best] = f"{best}.turned"
    nodes = [helper.make_node("Transpose", [n], [t], t, perm=[1, 0]) for n, t in turned.items()]
    for node in small.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del small.graph.node[:]
    small.graph.node.extend(nodes)
    kept = [t for t in small.graph.initializer if t.name not in names]
    del small.graph.initializer[:]
    small.graph.initializer.extend(kept)
    return small


def rewritten(model: onnx.ModelProto, network: nn.Module) -> list[str]:
    """Return the trainable tensors of a network with which a graph of `without_weights` does not compute.

    The exporter has put them into others, so that training would not change what the graph computes. Batch norms are
    left out: `models.norms.fold` puts those into convolutions, before and after training.

    Args:
        model: The graph.
        network: Whose weights lie beside it.
    """
    used = {name for node in model.graph.node for name in node.input}
    norms = [f"{name}." for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    trained = [name for name, p in network.named_parameters() if p.requires_grad and not name.startswith(tuple(norms))]
    return [name for name in trained if name not in used]


def _namesake(name: str, values: np.ndarray, state: Mapping[str, np.ndarray]) -> str | None:
    """Return the tensor with these values; of several, the one whose name is most alike."""
    near = {k: float(np.abs(v - values).max()) for k, v in state.items() if v.shape == values.shape and v.size > 1}
    best = min(near, key=lambda k: (near[k], -sum(map(str.__eq__, k, name))), default=None)
    return best if best is not None and near[best] <= SAME * float(np.abs(values).max()) else None
