"""What is recorded of runtimes that agree, disagree, or do not run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import runtimes
from benchmarks.other_runtimes import RUNTIMES
from tests.onnx_files import save_pool

LOGITS = [np.array([[1.0, 3.0, 2.0]], np.float32), np.array([[5.0, 4.0, 0.0], [0.0, 1.0, 2.0]], np.float32)]


def test_the_largest_difference_over_all_batches_counts() -> None:
    near = [LOGITS[0] + np.float32(2e-4), LOGITS[1] - np.float32(9e-4)]
    found = runtimes.judged(near, LOGITS)
    assert found["max_abs_diff"] == pytest.approx(9e-4, rel=1e-3)
    assert (found["agrees"], found["same_top1"], found["images"]) == (True, 3, 3)


def test_another_class_and_a_large_difference_are_told() -> None:
    far = [LOGITS[0], LOGITS[1] + np.array([[0, 1.5, 0], [0, 0, 0]], np.float32)]
    found = runtimes.judged(far, LOGITS)
    assert (found["agrees"], found["same_top1"]) == (False, 2)
    assert "above 0.001; same top-1 on 2 of 3 images" in runtimes._cell(found)


def test_not_a_number_does_not_agree() -> None:
    found = runtimes.judged([LOGITS[0], LOGITS[1] * np.float32("nan")], LOGITS)
    assert found == {"failed": "outputs are not finite"}


def test_outputs_of_another_shape_are_no_comparison() -> None:
    assert runtimes.judged([LOGITS[0][:, :2], LOGITS[1]], LOGITS)["failed"].startswith("outputs of shape (1, 2)")


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_that_is_missing_or_fails_is_recorded_with_the_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    found = runtimes.ask(name, tmp_path / "broken.onnx", [np.zeros((1, 3, 8, 8), np.float32)])
    assert isinstance(found, dict)
    assert found["failed"]
    if runtimes.installed()[name] is None:
        assert found["failed"].startswith("ModuleNotFoundError: No module named")
    assert runtimes._cell(found).startswith("failed: ")


def test_every_runtime_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_pool(tmp_path / "pool.onnx")
    monkeypatch.setattr(runtimes, "ask", lambda name, file, feeds: {"failed": f"{name} {len(feeds)}"})
    found = runtimes.compare(path)
    assert {k: v for k, v in found.items() if k in RUNTIMES} == {n: {"failed": f"{n} 3"} for n in RUNTIMES}
    assert found["largest_logit"] > 0
