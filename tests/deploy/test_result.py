"""Reading what `prune` has left: complete, or all that is wrong with it in one message."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.result import read_result


def test_a_result_is_read(result: Path) -> None:
    found = read_result(result)
    assert found.labels[0] == "apple" and len(found.labels) == 6
    assert found.models == {"fp32": result / "model.onnx"}
    assert found.base.arch == "test_resnet"
    assert found.report["zoo"] == "own"


def test_an_int8_model_is_found(result: Path) -> None:
    (result / "model-int8.onnx").write_bytes(b"")
    assert list(read_result(result).models) == ["fp32", "int8"]


def test_something_else_than_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"is no directory.*mvp-edge prune"):
        read_result(tmp_path / "none")


def test_all_problems_are_told_at_once(result: Path) -> None:
    (result / "model.onnx").unlink()
    (result / "labels.txt").write_text("\n")
    (result / "report.json").write_text("{")
    (result / "plan.json").write_text("[]")
    with pytest.raises(ExportError) as caught:
        read_result(result)
    message = str(caught.value)
    for wanted in ("model.onnx is missing", "labels.txt is empty", "report.json is damaged", "plan.json holds no JSON"):
        assert wanted in message


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"report.json is missing; plan.json is missing; labels.txt is missing"):
        read_result(tmp_path)


@pytest.mark.parametrize("plan", [{"groups": []}, {"base": "resnet"}, {"base": {"name": "x"}}])
def test_a_plan_without_its_base(result: Path, plan: object) -> None:
    (result / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(ExportError, match="does not name its base model"):
        read_result(result)


def test_a_file_that_cannot_be_read(result: Path) -> None:
    (result / "labels.txt").write_bytes("röse\n".encode("latin-1"))
    with pytest.raises(ExportError, match=r"labels.txt cannot be read"):
        read_result(result)
