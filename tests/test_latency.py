from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from mvp_edge.errors import ExportError
from mvp_edge.latency import compare_latency
from mvp_edge.onnx_session import open_session
from tests.onnx_files import Dim, save_pool


def test_models_take_turns_and_have_the_same_number_of_runs(tmp_path: Path) -> None:
    small, large = save_pool(tmp_path / "a.onnx"), save_pool(tmp_path / "b.onnx", ("batch", 3, 600, 600))
    fast, slow = compare_latency([small, large], threads=1, rounds=2, runs_per_round=5)
    assert (fast.runs, slow.runs, fast.threads) == (10, 10, 1)
    assert 0 < fast.median_ms < slow.median_ms
    assert fast.iqr_ms >= 0
    assert fast.p95_ms >= fast.median_ms


def test_budget_ends_after_a_whole_round(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "a.onnx")
    assert compare_latency([path], rounds=100, runs_per_round=3, budget_s=0)[0].runs == 3


@pytest.mark.parametrize(
    ("shape", "dtype", "metadata"),
    [
        (("batch", 3, 8, 6), TensorProto.FLOAT, {}),
        ((2, 3, 8, 6), TensorProto.UINT8, {}),
        (("n", 1, "h", "w"), TensorProto.FLOAT, {"input_size": "[8, 6]"}),
    ],
)
def test_any_image_model(tmp_path: Path, shape: tuple[Dim, ...], dtype: int, metadata: dict[str, str]) -> None:
    path = save_pool(tmp_path / "a.onnx", shape, dtype, metadata)
    session = open_session(path)
    assert session.input_size == (8, 6)
    assert session.dtype is (np.float32 if dtype == TensorProto.FLOAT else np.uint8)
    assert compare_latency([path], rounds=1, runs_per_round=2, batch=2)[0].runs == 2


@pytest.mark.parametrize("content", [b"hello, I am text", b""])
def test_a_file_that_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"model\.onnx cannot be loaded as an ONNX model \(.+\); make one with"):
        compare_latency([path])


def test_a_truncated_file(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ExportError, match="cannot be loaded"):
        open_session(path)


@pytest.mark.parametrize("name", ["none.onnx", "."])
def test_missing_file_or_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match="is no file"):
        open_session(tmp_path / name)


@pytest.mark.parametrize(
    ("shape", "dtype", "inputs"),
    [
        (("batch", 3, 8), TensorProto.FLOAT, 1),
        (("batch", 3, 8, 8), TensorProto.INT64, 1),
        (("batch", 3, 8, 8), TensorProto.FLOAT, 2),
    ],
)
def test_another_signature(tmp_path: Path, shape: tuple[Dim, ...], dtype: int, inputs: int) -> None:
    path = save_pool(tmp_path / "a.onnx", shape, dtype, inputs=inputs)
    with pytest.raises(ExportError, match=r"has the inputs .*image0.* is required"):
        open_session(path)


@pytest.mark.parametrize("stored", [None, "[8]", "[0, 8]", '["8", 8]', "8", "no json"])
def test_open_size_without_usable_metadata(tmp_path: Path, stored: str | None) -> None:
    path = save_pool(tmp_path / "a.onnx", ("n", 3, "h", "w"), metadata={"input_size": stored} if stored else {})
    with pytest.raises(ExportError, match="has no metadata `input_size`"):
        open_session(path)


def test_open_channels(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="fixed channels"):
        open_session(save_pool(tmp_path / "a.onnx", ("n", "c", 8, 8)))


def test_fixed_batch_of_another_size(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "a.onnx", (4, 3, 8, 8))
    with pytest.raises(ExportError, match="takes batches of 4, not 1"):
        compare_latency([path])


def test_loads_but_does_not_run(tmp_path: Path) -> None:
    path = save_pool(tmp_path / "a.onnx", ("n", 3, "h", "w"), metadata={"input_size": "[8, 8]"})
    import onnx
    from onnx import helper

    model = onnx.load(path)
    shape = helper.make_tensor("to", TensorProto.INT64, [2], [1, 7])
    model.graph.initializer.append(shape)
    model.graph.node[-1].output[0] = "pooled"
    model.graph.node.append(helper.make_node("Reshape", ["pooled", "to"], ["logits"]))
    onnx.save(model, path)
    with pytest.raises(ExportError, match="loads but fails on an image"):
        compare_latency([path])


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"rounds": 0}, {"batch": 0}])
def test_programmer_mistakes(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        compare_latency([save_pool(tmp_path / "a.onnx")], **wrong)
