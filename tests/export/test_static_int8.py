"""INT8 from stored ranges: it agrees with float32, and no pair of products overflows 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mvp_edge.deploy.ort_format import convert
from mvp_edge.deploy.targets import NEEDS
from mvp_edge.export.static_int8 import quantise, weight_levels

RANGES = {"image": [0.0, 1.0], "a": [0.0, 6.0], "b": [0.0, 6.0], "c": [-4.0, 4.0], "d": [-8.0, 8.0]}


def network() -> onnx.ModelProto:
    """Return a dense, a depthwise and a pointwise convolution with a sum, then means of channels."""
    draw = np.random.default_rng(0)
    shapes = {"a": (16, 3, 3, 3), "b": (16, 1, 3, 3), "c": (16, 16, 1, 1), "e": (16, 16, 1, 1)}
    stored = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("low", 0), ("high", 6))]
    for name, shape in shapes.items():
        weight = draw.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        stored.append(numpy_helper.from_array(weight, f"{name}.weight"))
        stored.append(numpy_helper.from_array(draw.normal(0, 0.3, 16).astype(np.float32), f"{name}.bias"))

    def conv(name: str, given: str, made: str, **more: Any) -> onnx.NodeProto:
        return helper.make_node("Conv", [given, f"{name}.weight", f"{name}.bias"], [made], name, **more)

    nodes = [
        conv("a", "image", "a0", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a0", "low", "high"], ["a"]),
        conv("b", "a", "b0", pads=[1, 1, 1, 1], group=16),
        helper.make_node("Clip", ["b0", "low", "high"], ["b"]),
        conv("c", "b", "c"),
        conv("e", "b", "e"),
        helper.make_node("Add", ["c", "e"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 16])], stored,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto) -> np.ndarray:
    images = np.random.default_rng(1).random((8, 3, 8, 8), np.float32)
    onnx.checker.check_model(model)
    return np.asarray(ort.InferenceSession(model.SerializeToString()).run(None, {"image": images})[0])


def test_int8_agrees_with_float32() -> None:
    made = quantise(network(), RANGES | {"e": [-4.0, 4.0]}, {})
    exact, found = run(network()), run(made)
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
    kinds = [n.op_type for n in made.graph.node]
    assert "Clip" not in kinds and kinds.count("QuantizeLinear") == 6
    stored = {t.name: t for t in made.graph.initializer}
    assert stored["b.weight.int"].data_type == TensorProto.INT8 and list(stored["b.weight.s"].dims) == [16]
    assert "a.weight" not in stored and "low" not in stored
    assert made == quantise(network(), RANGES | {"e": [-4.0, 4.0]}, {})


def test_a_shift_moves_the_results() -> None:
    ranges, shift = RANGES | {"e": [-4.0, 4.0]}, np.linspace(-0.5, 0.5, 16).astype(np.float32)
    moved = run(quantise(network(), ranges, {"e.bias": shift})) - run(quantise(network(), ranges, {}))
    np.testing.assert_allclose(moved, np.tile(shift, (8, 1)), atol=0.05)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(KeyError, match="e"):
        quantise(network(), RANGES, {})
    with pytest.raises(ValueError, match="shift"):
        quantise(network(), RANGES | {"e": [-4.0, 4.0]}, {"a.bias": np.zeros(3, np.float32)})


def test_no_pair_of_products_overflows_16_bits() -> None:
    """The greatest activation is 255; a pair is two neighbouring inputs of a channel."""
    draw = np.random.default_rng(2)
    for columns in (5, 8):
        weight = draw.standard_t(2, (64, columns, 1, 1)).astype(np.float32)
        weight[0] = 0
        levels, scale = weight_levels(weight)
        pairs = np.pad(levels.reshape(64, -1), ((0, 0), (0, columns % 2))).astype(np.int32).reshape(64, -1, 2)
        assert (255 * pairs.clip(0).sum(2)).max() <= 32767 and (255 * pairs.clip(max=0).sum(2)).min() >= -32768
        assert np.abs(levels * scale.reshape(-1, 1, 1, 1) - weight).max() <= 0.51 * scale.max()
        assert levels[0].max() == 0


def test_depthwise_weights_use_all_levels() -> None:
    weight = np.array([1.0, 1.0, 1.0], np.float32).reshape(1, 1, 1, 3)
    assert weight_levels(weight)[0].ravel().tolist() == [127] * 3
    assert weight_levels(weight.reshape(1, 3, 1, 1))[0].max() <= 64


def test_it_converts_to_the_format_of_phones(tmp_path: Path) -> None:
    onnx.save(quantise(network(), RANGES | {"e": [-4.0, 4.0]}, {}), tmp_path / "model.onnx")
    convert(tmp_path, NEEDS["android"])
    expected = run(onnx.load(tmp_path / "model.onnx"))
    for name in ("model.ort", "model.with_runtime_opt.ort"):
        images = np.random.default_rng(1).random((8, 3, 8, 8), np.float32)
        found = ort.InferenceSession(tmp_path / name).run(None, {"image": images})[0]
        np.testing.assert_allclose(np.asarray(found), expected, atol=0.05)
