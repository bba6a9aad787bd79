from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mvp_edge.core.errors import ExportError
from mvp_edge.timing.profiling import profile_model, summarise
from tests.onnx_files import save_pool


def kernel(name: str, operator: str, index: int, us: float, shape: tuple[int, ...] = (1, 4)) -> dict[str, Any]:
    args = {"op_name": operator, "node_index": str(index), "output_type_shape": [{"float": list(shape)}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": args}


def call(us: float) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "dur": us, "args": {}}


def test_summary_by_hand() -> None:
    events = [
        # The warm-up call, then three; in the second of them another program interrupted a node.
        *(kernel("a_nchwc", "Conv", 0, 900), kernel("b", "Relu", 1, 900), call(5000)),
        *(kernel("a_nchwc", "Conv", 0, 30), kernel("b", "Relu", 1, 10), call(45)),
        *(kernel("a_nchwc", "Conv", 0, 930), kernel("b", "Relu", 1, 10), call(946)),
        *(kernel("a_nchwc", "Conv", 0, 30), kernel("b", "Relu", 1, 10), call(44)),
        {"cat": "Node", "name": "a_fence_before", "dur": 1, "args": {}},
    ]
    profile = summarise(events, runs=3)
    assert [(n.name, n.operator, n.median_us, n.share) for n in profile.nodes] == [
        ("a", "Conv", 30, 0.75),
        ("b", "Relu", 10, 0.25),
    ]
    assert (profile.operators_us, profile.between_us) == (40, 5)
    assert profile.nodes[0].output_shape == (1, 4)


def test_operators_are_summed_dearest_first() -> None:
    nodes = [kernel("a", "Relu", 0, 5), kernel("b_token_3", "Conv", 1, 4), kernel("b_token_9", "Conv", 2, 11)]
    profile = summarise([*nodes, call(20)], runs=1)
    assert [(o.operator, o.count, o.median_us, o.share) for o in profile.operators] == [
        ("Conv", 2, 15, 0.75),
        ("Relu", 1, 5, 0.25),
    ]
    assert [n.name for n in profile.nodes] == ["a", "b", "b"]


def test_nothing_measured() -> None:
    profile = summarise([], runs=1)
    assert (profile.nodes, profile.between_us, profile.operators_us) == ((), 0.0, 0.0)


def test_a_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    profile = profile_model(save_pool(tmp_path / "a.onnx"), runs=5, batch=2)
    assert {o.operator for o in profile.operators} == {"Cast", "ReduceMean"} or profile.nodes[
        -1
    ].operator == "ReduceMean"
    assert sum(o.share for o in profile.operators) == pytest.approx(1)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_what_cannot_be_profiled(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a file"):
        profile_model(tmp_path / "none.onnx")
    with pytest.raises(ExportError, match="--batch 4"):
        profile_model(save_pool(tmp_path / "a.onnx", (4, 3, 8, 8)))
    with pytest.raises(ValueError, match="at least 1"):
        profile_model(tmp_path / "a.onnx", runs=0)
