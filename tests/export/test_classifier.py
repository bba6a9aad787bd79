"""The facts that an app's code is written against."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from mvp_edge.core.errors import ExportError
from mvp_edge.export import export_onnx
from mvp_edge.export.classifier import Interface, read_interface
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
