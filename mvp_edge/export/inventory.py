"""What an ONNX file is made of: its operators, and how many of its bytes are parameters."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx

from mvp_edge.core.errors import ExportError


@dataclass(frozen=True)
class Inventory:
    """Contents of an ONNX file.

    Attributes:
        operators: How often each operator occurs, most frequent first; one of another domain than ONNX's own is
            written `domain:Operator`.
        parameter_bytes: Bytes of the stored tensors.
        file_bytes: Bytes of the file.
        opset: ONNX operator set.
        largest_rank: Dimensions of the tensor that has most; several phone runtimes take no more than four.
    """

    operators: dict[str, int]
    parameter_bytes: int
    file_bytes: int
    opset: int
    largest_rank: int


def take_inventory(path: Path) -> Inventory:
    """Count what is in the file.

    Raises:
        ExportError: it is missing or no ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as e:  # protobuf's errors share no base class but this one
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
    """Return the largest rank that can be told; what follows an operator of another domain is not known."""
    graph = model.graph
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    ranks = [len(v.type.tensor_type.shape.dim) for v in values] + [len(t.dims) for t in graph.initializer]
    return max(ranks, default=0)


def _bytes(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
