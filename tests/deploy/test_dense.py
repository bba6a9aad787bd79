"""The whole model, made again from the zoo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.dense import write_dense
from mvp_edge.deploy.ort_format import verify
from mvp_edge.deploy.result import read_result


def test_the_base_is_made_again(result: Path, base_zoo: Path, tmp_path: Path) -> None:
    write_dense(read_result(result), str(base_zoo), tmp_path / "dense.onnx")
    source = result / "model.onnx"
    assert verify(tmp_path / "dense.onnx", source, source) == 0  # this result keeps all of the base


def test_a_zoo_that_is_not_to_be_found(result: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot be made again .*'own'.*--zoo DIR"):
        write_dense(read_result(result), None, tmp_path / "dense.onnx")


def test_another_base(result: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"but this zoo's base is resnet18-cifar100"):
        write_dense(read_result(result), "cifar100-resnet18", tmp_path / "dense.onnx")


def test_a_base_of_ones_own_with_the_name_of_a_bundled_one(result: Path, base_zoo: Path, tmp_path: Path) -> None:
    for file, change in (("plan.json", {"name": "resnet18-cifar100"}), ("report.json", str(base_zoo))):
        value = json.loads((result / file).read_text())
        value |= {"base": value["base"] | change} if isinstance(change, dict) else {"zoo": change}
        (result / file).write_text(json.dumps(value))
    write_dense(read_result(result), None, tmp_path / "dense.onnx")
    assert verify(tmp_path / "dense.onnx", result / "model.onnx", result / "model.onnx") == 0


def test_a_damaged_zoo(result: Path, base_zoo: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base_zoo, tmp_path / "copy"))
    next(copy.glob("base.*")).unlink()
    with pytest.raises(ExportError, match="cannot be made again"):
        write_dense(read_result(result), str(copy), tmp_path / "dense.onnx")
