"""Weights in few bytes: the same results, and unpacked once when a runtime loads the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mvp_edge.core.packed import Packed, Stored
from mvp_edge.export.compact import halve, store_compactly

DRAW = np.random.default_rng(0)
LEVELS = DRAW.integers(-127, 128, (32, 16, 1, 1)).astype(np.int8)
SCALE = DRAW.random(32).astype(np.float32)
FORMS: dict[str, Stored] = {
    "levels": Packed(LEVELS, SCALE, LEVELS.shape),
    "codes": Packed(
        DRAW.integers(0, 4, (32, 8)).astype(np.uint8), SCALE, LEVELS.shape, DRAW.random((4, 2)).astype(np.float16)
    ),
    "too many columns": Packed(
        DRAW.integers(0, 4, (32, 6)).astype(np.uint8), SCALE.astype(np.float16), LEVELS.shape,
        DRAW.random((4, 3)).astype(np.float16),
    ),
    "half": DRAW.random(LEVELS.shape).astype(np.float16),
}  # fmt: skip


def network(weight: np.ndarray) -> onnx.ModelProto:
    bias = numpy_helper.from_array(np.ones(32, np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w", "b"], ["y"], "conv")], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 16, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32, 2, 2])],
        [numpy_helper.from_array(weight.astype(np.float32), "w"), bias],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto, optimised: Path | None = None) -> np.ndarray:
    options = ort.SessionOptions()
    if optimised is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(optimised)
    session = ort.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {"image": np.ones((1, 16, 2, 2), np.float32)})[0])


@pytest.mark.parametrize("kind", FORMS)
def test_stored_weights_compute_the_same_and_are_unpacked_at_load(kind: str, tmp_path: Path) -> None:
    form = FORMS[kind]
    model = network(form.values if isinstance(form, Packed) else form)
    before, bytes_before = run(model), len(model.SerializeToString())
    store_compactly(model, {"w": form, "b": np.ones(32, np.float16), "other": form})
    onnx.checker.check_model(model)
    np.testing.assert_array_equal(run(model, tmp_path / "optimised.onnx"), before)
    assert [n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node] == ["Conv"]
    assert len(model.SerializeToString()) < bytes_before
    assert "b" in {t.name for t in model.graph.initializer}  # too small


def test_halves_are_near() -> None:
    weight = DRAW.normal(size=LEVELS.shape).astype(np.float32)
    model = network(weight)
    before, size = run(model), len(model.SerializeToString())
    halve(model)
    np.testing.assert_allclose(run(model), before, atol=1e-2)
    assert len(model.SerializeToString()) < 0.6 * size


def test_a_scale_in_halves_is_unpacked(tmp_path: Path) -> None:
    form = FORMS["too many columns"]
    assert isinstance(form, Packed)
    model = network(form.values)
    store_compactly(model, {"w": form})
    stored = {t.name: t.data_type for t in model.graph.initializer}
    assert stored["w.scale"] == TensorProto.FLOAT16
