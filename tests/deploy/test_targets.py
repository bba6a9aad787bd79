"""Eligibility: counted by onnxruntime's own partitioning."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import onnx
import pytest
from onnx import TensorProto, helper

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.ort_format import fixed_batch
from mvp_edge.deploy.targets import CHECKER, DOCUMENTED, Provider, eligibility

ALL = get_args(Provider)


def save(path: Path, operators: list[str]) -> Path:
    """Write a chain of operators on one tensor."""
    names = [f"t{i}" for i in range(len(operators) + 1)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in (names[0], names[-1])]
    nodes = [helper.make_node(op, [a], [b]) for op, a, b in zip(operators, names, names[1:], strict=False)]
    model = helper.make_model(
        helper.make_graph(nodes, "chain", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save(model, str(path))
    return path


def test_a_chain_with_an_operator_that_few_know(tmp_path: Path) -> None:
    chain = save(tmp_path / "m.onnx", ["Relu", "Atanh", "Sigmoid", "Tanh"])
    rows = {r.provider: r for r in eligibility(chain, ALL)}
    assert tuple(rows) == ALL
    nnapi = rows["NNAPI"]
    assert (nnapi.nodes, nnapi.supported, nnapi.partitions, nnapi.unsupported) == (4, 3, 2, ("Atanh",))
    assert nnapi.verdict == "no" and nnapi.basis == CHECKER
    xnnpack = rows["XNNPACK"]
    assert (xnnpack.supported, xnnpack.partitions, xnnpack.verdict) == (0, 0, None)
    assert xnnpack.basis == DOCUMENTED and rows["QNN"].supported == 3
    assert rows["QNN"].to_json()["unsupported"] == ["Atanh"]
    assert eligibility(chain, ["QNN", "NNAPI"]) == [rows["QNN"], rows["NNAPI"]]


def test_the_network_of_a_result(result: Path, tmp_path: Path) -> None:
    fixed_batch(result / "model.onnx", tmp_path / "one.onnx", 1)
    rows = {r.provider: r for r in eligibility(tmp_path / "one.onnx", ALL)}
    assert rows["NNAPI"].verdict == "yes" and rows["NNAPI"].partitions == 1
    assert 0 < rows["XNNPACK"].supported < rows["XNNPACK"].nodes
    assert "Conv" not in rows["XNNPACK"].unsupported


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ExportError, match="checker"):
        eligibility(tmp_path / "a.onnx", ALL)
