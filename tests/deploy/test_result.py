"""A result directory: complete, or all of its problems in one message; and its whole base model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import RESNET_ZOO
from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.ort_format import verify
from mvp_edge.deploy.result import read_result, write_dense


def test_a_result_is_read(result: Path) -> None:
    found = read_result(result)
    assert found.labels[0] == "apple" and len(found.labels) == 6
    assert found.models == {"fp32": result / "model.onnx"}
    assert found.base.arch == "test_resnet"
    assert found.report.zoo == "own"


def test_an_int8_model_is_found(result: Path) -> None:
    (result / "model-int8.onnx").write_bytes(b"")
    assert list(read_result(result).models) == ["fp32", "int8"]


def test_something_else_than_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"not a directory.*mvp-edge prune"):
        read_result(tmp_path / "none")


def test_all_problems_are_told_at_once(result: Path) -> None:
    (result / "model.onnx").unlink()
    (result / "labels.txt").write_text("\n")
    (result / "report.json").write_text("{")
    (result / "plan.json").write_text("[]")
    with pytest.raises(ExportError) as caught:
        read_result(result)
    message = str(caught.value)
    for wanted in (
        "model.onnx is missing",
        "labels.txt is empty",
        "report.json is damaged",
        "plan.json is not a JSON object",
    ):
        assert wanted in message


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"report\.json .*plan\.json .*labels\.txt"):
        read_result(tmp_path)


@pytest.mark.parametrize("plan", [{"groups": []}, {"base": "resnet"}, {"base": {"name": "x"}}])
def test_a_plan_without_its_base(result: Path, plan: object) -> None:
    (result / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ExportError, match="base model"):
        read_result(result)


def test_a_file_that_cannot_be_read(result: Path) -> None:
    (result / "labels.txt").write_bytes("röse\n".encode("latin-1"))
    with pytest.raises(ExportError, match=r"labels.txt cannot be read"):
        read_result(result)


def test_the_base_is_made_again(result: Path, base_zoo: Path, tmp_path: Path) -> None:
    write_dense(read_result(result), str(base_zoo), tmp_path / "dense.onnx")
    source = result / "model.onnx"
    assert verify(tmp_path / "dense.onnx", source, source) == 0  # this result keeps all of the base


def test_a_zoo_that_is_not_to_be_found(result: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"'own'.*--zoo DIR"):
        write_dense(read_result(result), None, tmp_path / "dense.onnx")


def test_another_base(result: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"resnet18-cifar100.*--zoo DIR"):
        write_dense(read_result(result), RESNET_ZOO, tmp_path / "dense.onnx")


def test_without_a_zoo_that_of_the_report_is_taken(result: Path, base_zoo: Path, tmp_path: Path) -> None:
    report = json.loads((result / "report.json").read_text())
    (result / "report.json").write_text(json.dumps(report | {"zoo": str(base_zoo)}))
    write_dense(read_result(result), None, tmp_path / "dense.onnx")
    assert verify(tmp_path / "dense.onnx", result / "model.onnx", result / "model.onnx") == 0


def test_a_damaged_zoo(result: Path, base_zoo: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(base_zoo, tmp_path / "copy"))
    next(copy.glob("base.*")).unlink()
    with pytest.raises(ExportError, match="--zoo DIR"):
        write_dense(read_result(result), str(copy), tmp_path / "dense.onnx")
