"""Small ONNX files made by hand, for tests that need an odd one."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

Dim = int | str


def save_pool(
    path: Path,
    shape: tuple[Dim, ...] = ("batch", 3, 8, 8),
    dtype: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
    inputs: int = 1,
) -> Path:
    """Write a model that means over the last axes of its first input, whatever its shape and dtype."""
    images = [helper.make_tensor_value_info(f"image{i}", dtype, shape) for i in range(inputs)]
    axes = helper.make_tensor("axes", TensorProto.INT64, [max(0, len(shape) - 2)], list(range(2, len(shape))))
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, list(shape[:2]))
    nodes = [
        helper.make_node("Cast", ["image0"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["logits"], keepdims=0),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "pool", images, [logits], [axes]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path
