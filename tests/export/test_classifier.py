"""The facts that an app's code is written against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from mvp_edge.core.errors import ExportError
from mvp_edge.export import export_onnx
from mvp_edge.export.classifier import Interface, OnnxClassifier, read_interface
from mvp_edge.models.bases import load_base
from tests.onnx_files import save_pool

THREE = {"labels": '["a", "b", "c"]'}


def test_an_exported_model(tiny_base: Path, tmp_path: Path) -> None:
    base, model = load_base(str(tiny_base))
    path = tmp_path / "model.onnx"
    export_onnx(
        model, path, input_size=base.input_size, mean=base.mean, std=base.std, labels=list("abcdef"), metadata={}
    )  # fmt: skip
    interface = read_interface(path)
    assert (interface.input_name, interface.output_name) == ("image", "logits")
    assert (interface.dtype, interface.layout, interface.size, interface.batch) == ("float32", "NCHW", (32, 32), None)
    assert interface.shape == (None, 3, 32, 32)


def test_bytes_are_fed_as_they_are(tmp_path: Path) -> None:
    found = read_interface(save_pool(tmp_path / "a.onnx", ("n", 3, 8, 6), TensorProto.UINT8, THREE))
    assert (found.dtype, found.size) == ("uint8", (8, 6))
    facts = found.to_json()
    assert facts["input"]["range"] == [0, 255]
    assert facts["normalisation"]["rule"] == "feed plain pixels"
    assert "6:8" in facts["resize"]["steps"][1]


def test_colours_last() -> None:
    found = Interface("x", "float32", "NHWC", (8, 6), 1, "y", ("a", "b"))
    assert found.shape == (1, 8, 6, 3)
    assert found.to_json()["input"]["layout"] == "NHWC"


@pytest.mark.parametrize(
    ("shape", "dtype", "inputs"),
    [
        (("n", 4, 8, 8), TensorProto.FLOAT, 1),
        (("n", 3, 8), TensorProto.FLOAT, 1),
        (("n", 3, 8, 8), TensorProto.INT32, 1),
        (("n", 3, 8, 8), TensorProto.FLOAT, 2),
    ],
)
def test_other_inputs(tmp_path: Path, shape: tuple[int | str, ...], dtype: int, inputs: int) -> None:
    path = save_pool(tmp_path / "a.onnx", shape, dtype, THREE, inputs)
    with pytest.raises(ExportError, match="image|RGB"):
        read_interface(path)


@pytest.mark.parametrize(
    ("shape", "labels", "wanted"),
    [
        (("n", 3, "h", "w"), '["a", "b", "c"]', "input_size"),
        (("n", 3, 8, 8), '["a", "b"]', "2 labels"),
        (("n", 3, 8, 8), "", "`labels`"),
        (("n", 3, 8, 8), '{"a": 1}', "JSON list of class names"),
    ],
)
def test_models_of_others(tmp_path: Path, shape: tuple[int | str, ...], labels: str, wanted: str) -> None:
    path = save_pool(tmp_path / "a.onnx", shape, TensorProto.FLOAT, {"labels": labels})
    with pytest.raises(ExportError, match=wanted):
        read_interface(path)


def test_a_file_that_tells_pictures_of_nothing_listed(tmp_path: Path) -> None:
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["n", 3, 1, 1])
    outputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in ("logits", "known")]
    shape = onnx.numpy_helper.from_array(np.array([-1]), "shape")
    nodes = [
        onnx.helper.make_node("Flatten", ["image"], ["logits"]),
        onnx.helper.make_node("ReduceMax", ["image"], ["top"], axes=[1, 2, 3]),
        onnx.helper.make_node("Reshape", ["top", "shape"], ["known"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [image], outputs, [shape])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    file = tmp_path / "model.onnx"
    about = {"labels": '["a", "b", "c"]', "mvp_edge.known_threshold": "0.5", "mvp_edge.temperature": "2.0"}
    onnx.helper.set_model_props(model, about)
    onnx.save(model, file)
    classifier = OnnxClassifier(file)
    assert (classifier.known_threshold, classifier.temperature) == (0.5, 2.0)
    images = np.array([[255, 0, 0], [0, 51, 102]], np.uint8).reshape(2, 3, 1, 1)
    logits, known = classifier.outputs(images)
    assert known is not None
    np.testing.assert_allclose(known, [1.0, 0.4], rtol=1e-6)
    np.testing.assert_allclose(classifier.predict(images), logits)
    told = read_interface(file).to_json()
    assert told["known"]["threshold"] == 0.5
    assert told["output"]["temperature"] == 2.0
    about["mvp_edge.known_threshold"] = "high"
    onnx.helper.set_model_props(model, about)
    onnx.save(model, file)
    with pytest.raises(ExportError, match="known_threshold"):
        OnnxClassifier(file)
