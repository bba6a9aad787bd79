"""ONNX Runtime's own format: converted quietly, loaded again, and refused where it differs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.ort_format import convert, fixed_batch, verify
from mvp_edge.deploy.targets import NEEDS
from mvp_edge.export.classifier import read_interface
from mvp_edge.timing.session import open_session


@pytest.fixture
def folder(result: Path, tmp_path: Path) -> Path:
    out = tmp_path / "models"
    out.mkdir()
    fixed_batch(result / "model.onnx", out / "model.onnx", 1)
    return out


def test_conversion_is_quiet_and_exact(folder: Path, result: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = logging.getLogger().handlers[:]
    convert(folder, NEEDS["android"])
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers
    assert {f.name for f in folder.iterdir()} == {
        "model.onnx",
        "model.ort",
        "model.with_runtime_opt.ort",
        "required_operators.config",
        "required_operators.with_runtime_opt.config",
    }
    for name in ("model.ort", "model.with_runtime_opt.ort"):
        assert verify(folder / name, result / "model.onnx", result / "model.onnx") < 1e-4
    config = (folder / "required_operators.config").read_text()
    assert "ai.onnx;" in config and "Conv" in config
    assert str(folder) not in config


def test_the_batch_is_fixed_where_asked(result: Path, tmp_path: Path) -> None:
    fixed = fixed_batch(result / "model.onnx", tmp_path / "one.onnx", 1)
    assert fixed.batch == 1
    assert open_session(tmp_path / "one.onnx").runner.get_outputs()[0].shape == [1, 6]
    assert fixed_batch(result / "model.onnx", tmp_path / "any.onnx", None).batch is None
    assert fixed_batch(tmp_path / "one.onnx", tmp_path / "again.onnx", 1) == fixed


def test_labels_travel_along(folder: Path) -> None:
    convert(folder, NEEDS["web"])
    assert read_interface(folder / "model.ort") == read_interface(folder / "model.onnx")


def test_a_model_that_differs_is_refused(folder: Path, result: Path, tmp_path: Path) -> None:
    convert(folder, NEEDS["web"])
    other, exact = scaled(result / "model.onnx", 1.5, tmp_path / "other.onnx"), result / "model.onnx"
    with pytest.raises(ExportError, match=r"other\.onnx differ .*0\.0001"):
        verify(folder / "model.ort", other, other)
    # Another precision may move the logits, and its converted file about as far.
    near, exact = scaled(exact, 1.01, tmp_path / "near.onnx"), scaled(exact, 1.02, tmp_path / "exact.onnx")
    assert verify(folder / "model.ort", near, exact) > 1e-4
    with pytest.raises(ExportError, match=r"other\.onnx differ"):
        verify(folder / "model.ort", other, scaled(exact, 1.4, tmp_path / "exact.onnx"))


@pytest.mark.parametrize(("factor", "refused"), [(1 + 3e-6, False), (1 + 1e-3, True)])
def test_large_logits_may_differ_by_more(result: Path, tmp_path: Path, factor: float, refused: bool) -> None:
    loud = times(result / "model.onnx", 1000.0, tmp_path / "loud.onnx")
    other = times(loud, factor, tmp_path / "other.onnx")
    if refused:
        with pytest.raises(ExportError, match="differ by"):
            verify(other, loud, loud)
    else:
        assert 1e-4 < verify(other, loud, loud) < 0.1


def times(source: Path, factor: float, target: Path) -> Path:
    """Write a copy of a model whose logits are multiplied by `factor`."""
    model = onnx.load(str(source))
    name, before, by = model.graph.output[0].name, f"before-{target.stem}", f"factor-{target.stem}"
    for node in model.graph.node:
        node.output[:] = [before if output == name else output for output in node.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), by))
    model.graph.node.append(onnx.helper.make_node("Mul", [before, by], [name]))
    onnx.save(model, str(target))
    return target


def scaled(source: Path, factor: float, target: Path) -> Path:
    """Write a copy of a model whose largest tensor is multiplied by `factor`."""
    model = onnx.load(str(source))
    tensor = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    tensor.CopyFrom(numpy_helper.from_array(np.float32(factor) * numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, str(target))
    return target


def test_files_that_are_no_model(tmp_path: Path) -> None:
    for name in ("a.onnx", "a.ort"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ExportError, match="cannot be loaded"):
            read_interface(tmp_path / name)


def test_a_conversion_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ExportError, match="cannot convert"):
        convert(tmp_path, NEEDS["web"])
    assert capfd.readouterr() == ("", "")
