"""INT8 and half-precision files: they agree with the float32 file, keep its interface, and are smaller."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mvp_edge.core.errors import ExportError
from mvp_edge.export import OnnxClassifier, export_onnx, take_inventory
from mvp_edge.export.precision import MIN_CHANNELS, convert_fp16, kept_float, quantise_int8
from mvp_edge.timing.session import open_session
from tests.onnx_files import save_pool

INPUT: dict[str, Any] = {"input_size": (16, 16), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
LABELS = ("apple", "pear", "plum")


class Residual(nn.Module):
    """A narrow stem, then wide convolutions with a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.wide, self.deep = nn.Conv2d(8, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.wide(self.stem(x).relu()).relu()
        return self.head((x + self.deep(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module", params=["float32-nchw", "uint8-nhwc"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Residual().eval()
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export_onnx(net, path, **INPUT, labels=LABELS, metadata={"task": "t"}, input_format=request.param)
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)


def test_int8_agrees_and_keeps_the_interface(file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    quantise_int8(file, target, pixels)
    full, small = OnnxClassifier(file).predict(pixels), OnnxClassifier(target).predict(pixels)
    assert 0 < np.abs(full - small).max() < 0.1 * np.abs(full).max()
    one, other = open_session(file), open_session(target)
    assert (one.layout, one.dtype, one.batch) == (other.layout, other.dtype, other.batch)
    assert other.metadata == one.metadata | {"precision": "int8"}
    graph = onnx.load(target)
    assert [o.domain for o in graph.opset_import] == [""]
    assert "Q" not in "".join(n.domain for n in graph.graph.node)
    assert take_inventory(target).parameter_bytes < 0.5 * take_inventory(file).parameter_bytes
    quantise_int8(file, tmp_path / "again.onnx", pixels)
    assert (tmp_path / "again.onnx").read_bytes() == target.read_bytes()


def test_int8_weights_have_a_scale_for_each_channel_and_narrow_layers_stay(
    file: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    quantise_int8(file, tmp_path / "int8.onnx", pixels)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    stored = {t.name: t for t in graph.initializer}
    convs = {n.name: n for n in graph.node if n.op_type == "Conv"}
    assert stored[convs["stem"].input[1]].data_type == TensorProto.FLOAT
    by_output = {n.output[0]: n for n in graph.node}
    for name in ("wide", "deep"):
        weight = by_output[convs[name].input[1]]
        assert weight.op_type == "DequantizeLinear"
        assert stored[weight.input[0]].data_type == TensorProto.INT8
        assert list(stored[weight.input[1]].dims) == [32]
    activations = [n for n in graph.node if n.op_type == "QuantizeLinear"]
    assert {stored[n.input[2]].data_type for n in activations} == {TensorProto.UINT8}


def test_narrow_maps_stay_float() -> None:
    def value(name: str, *shape: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes = [helper.make_node("Relu", [a], [b], f"{a}{b}") for a, b in ("xa", "ab", "bc", "cd", "dy")]
    shapes = [value("a", 1, MIN_CHANNELS - 1, 4, 4), value("b", 1, MIN_CHANNELS, 4, 4), value("c", 1, 2)]
    shapes.append(value("d", 1, 1, 4, 4))
    graph = helper.make_graph(nodes, "g", [value("x", 1, 3, 4, 4)], [value("y", 1, 3, 4, 4)], value_info=shapes)
    assert kept_float(graph) == ["xa", "cd", "dy"]


def test_a_transformer_keeps_its_sums_in_float(tmp_path: Path) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 3)
            self.patch = nn.Conv2d(3, 32, 4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            return self.down(self.up(self.norm(x) + x)).mean(1)

    path = tmp_path / "m.onnx"
    export_onnx(Block().eval(), path, **INPUT, labels=LABELS, metadata={})
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    quantise_int8(path, tmp_path / "q.onnx", images)
    graph = onnx.load(tmp_path / "q.onnx").graph
    made = {n.output[0]: n.op_type for n in graph.node}
    sums = [n for n in graph.node if n.op_type == "Add" and "norm" in "".join(n.input)]
    assert sums
    assert all(made.get(name) != "DequantizeLinear" for n in sums for name in n.input)
    assert any(n.op_type == "MatMul" and made[n.input[0]] == "DequantizeLinear" for n in graph.node)
    stored = [t for t in graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1]
    largest = max(int(np.abs(numpy_helper.to_array(t).astype(int)).max()) for t in stored)
    assert largest > 32 and 2 * 255 * largest < 2**15  # no pair of products overflows 16 bits


def test_a_fixed_batch_is_filled_up(file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "four.onnx")
    quantise_int8(tmp_path / "four.onnx", tmp_path / "int8.onnx", pixels[:6])
    assert open_session(tmp_path / "int8.onnx").batch == 4


def test_quantising_leaves_logging_alone(file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    quantise_int8(file, tmp_path / "int8.onnx", pixels[:2])
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize(
    "images", [np.zeros((0, 3, 16, 16), np.uint8), np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 3, 16, 16))]
)
def test_images_of_another_kind(file: Path, tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="is required"):
        quantise_int8(file, tmp_path / "int8.onnx", images)


def test_a_graph_that_cannot_be_quantised(
    file: Path, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NotImplementedError("no such operator\nmore")

    monkeypatch.setattr("mvp_edge.export.precision._quantise", fail)
    with pytest.raises(ExportError, match="quantised .*no such operator"):
        quantise_int8(file, tmp_path / "int8.onnx", pixels)
    assert not list(tmp_path.iterdir())


def test_fp16_agrees_and_halves_the_weights(file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    target = tmp_path / "fp16.onnx"
    convert_fp16(file, target)
    full, small = OnnxClassifier(file).predict(pixels), OnnxClassifier(target).predict(pixels)
    assert 0 < np.abs(full - small).max() < 0.01 * np.abs(full).max()
    assert small.dtype == np.float32
    assert open_session(target).metadata == open_session(file).metadata | {"precision": "fp16"}
    assert take_inventory(target).parameter_bytes < 0.52 * take_inventory(file).parameter_bytes


@pytest.mark.parametrize("convert", [convert_fp16, lambda s, t: quantise_int8(s, t, np.zeros((1, 3, 8, 8), np.uint8))])
def test_files_that_cannot_be_read_or_written(tmp_path: Path, convert: Any) -> None:
    with pytest.raises(ExportError, match="not a file"):
        convert(tmp_path / "none.onnx", tmp_path / "x.onnx")
    source = save_pool(tmp_path / "m.onnx", metadata={"labels": json.dumps(["a", "b", "c"])})
    with pytest.raises(ExportError, match="cannot be written"):
        convert(source, tmp_path / "none" / "x.onnx")
