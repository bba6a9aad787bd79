"""Files for LiteRT, ncnn and Core ML: what a runtime that is here computes, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy import coreml, litert, ncnn
from mvp_edge.deploy.ort_format import fixed_batch
from mvp_edge.deploy.plain import Plain, read_plain, rounds_up, unpack
from mvp_edge.export import OnnxClassifier, export_onnx
from mvp_edge.export.classifier import Interface
from mvp_edge.export.compact import halve
from mvp_edge.export.named_head import attach_head
from mvp_edge.export.precision import quantise_int8
from mvp_edge.names.known import FewRows, Split

LABELS = ("apple", "pear", "plum")
SIZE = (16, 12)  # not square


class Convolutional(nn.Module):
    """Dense, depthwise and strided convolutions with paddings of both kinds, a pool, a sum and a head."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.wide, self.deep = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 16, 1)
        self.pool, self.head = nn.MaxPool2d(3, 2, 1), nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stem(x).clamp(0, 6))
        return self.head((x + self.deep(self.wide(x).relu())).mean((2, 3)))


class Attending(nn.Module):
    """Patches, a norm, attention of two heads and a GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.q, self.k, self.v, self.head = (nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.patches(x).reshape(-1, 8, 12).permute(0, 2, 1))
        q, k, v = (layer(x).reshape(-1, 12, 2, 4).permute(0, 2, 1, 3) for layer in (self.q, self.k, self.v))
        x = x + ((q @ k.permute(0, 1, 3, 2)).softmax(-1) @ v).permute(0, 2, 1, 3).reshape(-1, 12, 8)
        return self.head(nn.functional.gelu(x).mean(1))


@pytest.fixture(scope="module", params=["convolutional", "attending", "bytes"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with a batch of one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = (Attending if request.param == "attending" else Convolutional)().eval()
    folder = tmp_path_factory.mktemp(request.param)
    export_onnx(
        net, folder / "whole.onnx", input_size=SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), labels=LABELS,
        metadata={}, input_format="uint8-nhwc" if request.param == "bytes" else "float32-nchw",
    )  # fmt: skip
    fixed_batch(folder / "whole.onnx", folder / "model.onnx", 1)
    return folder / "model.onnx"


@pytest.fixture(scope="module", params=["few", "means"])
def telling(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of two names, one of which stands for two classes, with the output `known`, and a batch of one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Convolutional(8).eval()
    folder, draw = tmp_path_factory.mktemp(request.param), np.random.default_rng(0)
    export_onnx(
        net, folder / "body.onnx", input_size=SIZE, mean=(0.5,) * 3, std=(0.2,) * 3, labels="abcdefgh", metadata={}
    )
    few = FewRows(*(draw.normal(0, 0.3, shape).astype(np.float32) for shape in ((4, 16), (8, 4), (8,), (16,))))
    how: dict[str, Any] = {"few": few} if request.param == "few" else {"means": draw.normal(0, 1, (2, 16))}
    split = Split(((0, 3), (2,)), (0, 2, 3), (1,), (4, 5, 6, 7))
    body = onnx.load(folder / "body.onnx")
    onnx.save(attach_head(body, split, ["pear", "plum"], known_threshold=0.5, **how), folder / "whole.onnx")
    fixed_batch(folder / "whole.onnx", folder / "model.onnx", 1)
    return folder / "model.onnx"


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 3, *SIZE), dtype=np.uint8)


def interface(file: Path) -> Interface:
    return fixed_batch(file, file.with_name("again.onnx"), 1)


def test_litert_computes_the_same(file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    litert.convert(file, tmp_path / "m.tflite", interface(file))
    (found,) = litert.outputs(tmp_path / "m.tflite", pixels, interface(file))
    np.testing.assert_allclose(found, OnnxClassifier(file).predict(pixels), atol=1e-4)
    assert json.dumps(list(LABELS)).encode() in (tmp_path / "m.tflite").read_bytes()


def said(file: Path, pixels: np.ndarray) -> list[np.ndarray]:
    """Return `logits` and `known` of a file with a batch of one."""
    session = ort.InferenceSession(file)
    each = [session.run(["logits", "known"], {"image": x[None].astype(np.float32) / np.float32(255)}) for x in pixels]
    return [np.concatenate([np.asarray(values[i]) for values in each]) for i in range(2)]


def test_litert_tells_what_is_none_of_these(telling: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    litert.convert(telling, tmp_path / "m.tflite", interface(telling))
    found, expected = litert.outputs(tmp_path / "m.tflite", pixels, interface(telling)), said(telling, pixels)
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=1e-4)


def test_ncnn_tells_what_is_none_of_these(telling: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    ncnn.convert(telling, tmp_path / "m.param", interface(telling))
    found, expected = ncnn.outputs(tmp_path / "m.param", pixels, interface(telling)), said(telling, pixels)
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, atol=0.02 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coremltools leaves a directory
def test_core_ml_tells_what_is_none_of_these(telling: Path, tmp_path: Path) -> None:
    coremltools = pytest.importorskip("coremltools")
    coreml.convert(telling, tmp_path / "m.mlpackage", interface(telling))
    described = coremltools.models.MLModel(str(tmp_path / "m.mlpackage"), skip_model_load=True).get_spec().description
    assert "known" in {o.name for o in described.output}


def test_litert_in_int8_computes_with_the_same_integers(file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    quantise_int8(file, tmp_path / "int8.onnx", pixels)
    litert.convert(tmp_path / "int8.onnx", tmp_path / "m.tflite", interface(file))
    (found,) = litert.outputs(tmp_path / "m.tflite", pixels, interface(file))
    exact, small = (OnnxClassifier(f).predict(pixels) for f in (file, tmp_path / "int8.onnx"))
    assert np.abs(found - small).max() <= 2 * np.abs(small - exact).max()
    assert np.abs(found - exact).max() > 1e-4


def test_ncnn_computes_nearly_the_same(file: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    if interface(file).dtype == "uint8":
        with pytest.raises(ExportError, match="without --input"):
            ncnn.convert(file, tmp_path / "m.param", interface(file))
        return
    ncnn.convert(file, tmp_path / "m.param", interface(file))
    (found,) = ncnn.outputs(tmp_path / "m.param", pixels, interface(file))
    np.testing.assert_allclose(found, OnnxClassifier(file).predict(pixels), atol=0.02)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coremltools leaves a directory
def test_core_ml_has_the_image_and_the_classes(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    if interface(file).dtype == "uint8":
        with pytest.raises(ExportError, match="without --input"):
            coreml.convert(file, tmp_path / "m.mlpackage", interface(file))
        return
    coreml.convert(file, tmp_path / "m.mlpackage", interface(file))
    assert (tmp_path / "m.mlpackage" / "Manifest.json").is_file()


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [(litert, "ai_edge_litert", "litert"), (ncnn, "pnnx", "ncnn"), (coreml, "coremltools", "coreml")],
)
def test_what_is_not_installed_is_named(
    module: Any, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("mvp_edge.deploy.ncnn.find_spec", lambda _: None)
    monkeypatch.setattr("mvp_edge.deploy.coreml.find_spec", lambda _: None)
    with pytest.raises(ExportError, match=rf"mvp-edge\[{extra}\]"):
        module.convert(tmp_path / "none.onnx", tmp_path / "x", Interface("i", "float32", "NCHW", SIZE, 1, "o", LABELS))


def test_an_operator_without_a_counterpart_is_named(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    graph = helper.make_graph(
        [helper.make_node("Det", ["image"], ["logits"], "odd")], "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "m.onnx")
    with pytest.raises(ExportError, match="Det odd cannot be converted to LiteRT"):
        litert.convert(
            tmp_path / "m.onnx",
            tmp_path / "m.tflite",
            Interface("image", "float32", "NCHW", (4, 4), 1, "logits", LABELS),
        )


def test_packed_weights_are_unpacked(file: Path, tmp_path: Path) -> None:
    model = onnx.load(file)
    whole = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if np.prod(t.dims) >= 256}
    halve(model)
    assert whole and not {t.name for t in model.graph.initializer} & whole.keys()
    unpack(model)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, value in whole.items():
        np.testing.assert_allclose(stored[name], value, atol=1e-3)


def test_a_gelu_is_one_operator(file: Path) -> None:
    kinds = [n.op_type for n in read_plain(file).nodes]
    assert "Erf" not in kinds and ("Gelu" in kinds) == ("Softmax" in kinds)


@pytest.mark.parametrize(
    ("given", "pads", "made", "expected"),
    [
        ((8, 8), [0, 0, 0, 0], (3, 3), False),
        ((8, 8), [0, 0, 0, 0], (4, 3), True),
        ((8, 8), [0, 0, 0, 0], (3, 4), True),
        ((8, 6), [1, 0, 0, 1], (4, 3), False),
        ((8, 6), [0, 1, 1, 0], (4, 3), False),
        ((8, 7), [0, 1, 2, 0], (4, 4), True),
    ],
)
def test_a_pool_gives_more_than_whole_windows(
    given: tuple[int, int], pads: list[int], made: tuple[int, int], expected: bool
) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=pads)
    plain = Plain([node], {}, {"x": (1, 4, *given), "y": (1, 4, *made)}, ["x"], ["y"])
    assert rounds_up(plain, node) == expected
