"""The tool delivers what it delivered when that was recorded.

`record.py` says what is recorded, and at which commits.
"""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.behaviour.record import differences

SCRIPT = Path(__file__).with_name("record.py")
NOTHING_TO_COMPARE = 3


@pytest.mark.slow
@pytest.mark.real
def test_ten_runs_deliver_what_was_recorded() -> None:
    root = os.environ.get("MVP_EDGE_DATA")
    if not root:
        pytest.skip("set MVP_EDGE_DATA to the directory that holds cifar100/{train,test}/CLASS")
    path = Path(root) / "cifar100"
    assert (path / "train" / "apple").is_dir(), f"MVP_EDGE_DATA is set, but {path} holds no CIFAR-100 image folders"
    # A process of its own: torch must not be loaded before its instructions are chosen.
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=3600)
    if done.returncode == NOTHING_TO_COMPARE:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


DELIVERED: dict[str, Any] = {
    "labels": ["apple", "pear"],
    "kept": {"stem": [0, 3]},
    "weights": {"tensors": 1, "values": 2, "norm": 1.0},
    "logits": {"model.onnx": [[1.0, -1.0], [0.0, 2.0]], "model-int8.onnx": [[1.1, -1.0], [0.0, 1.9]]},
    "top1": 50.0,
    "n": 50,
}


def logit(file: str, change: float) -> Callable[[dict[str, Any]], None]:
    def edit(run: dict[str, Any]) -> None:
        run["logits"][file][0][0] += change

    return edit


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda _: None, ""),
        (logit("model.onnx", 0.02), ""),  # rounding, enlarged by training
        (logit("model.onnx", 0.1), "model.onnx"),
        (logit("model-int8.onnx", 0.05), ""),  # saturated, or rounded at other places
        (logit("model-int8.onnx", 0.5), "model-int8.onnx"),
        (lambda run: run.update(top1=52.0), ""),  # one image
        (lambda run: run.update(top1=54.0), "top-1"),
        (lambda run: run["kept"].update(stem=[0, 2]), "keep other units"),
        (lambda run: run.update(labels=["pear", "apple"]), "labels"),
        (lambda run: run["weights"].update(norm=1.001), "weights"),
        (lambda run: run["logits"].pop("model-int8.onnx"), "files"),
    ],
)
def test_what_counts_as_another_result(edit: Callable[[dict[str, Any]], None], found: str) -> None:
    after = copy.deepcopy(DELIVERED)
    edit(after)
    problems = differences(DELIVERED, after, "run", trained=True)
    assert len(problems) == bool(found) and found in "".join(problems)


def test_without_training_logits_are_the_same() -> None:
    after = copy.deepcopy(DELIVERED)
    logit("model.onnx", 5e-4)(after)
    assert differences(DELIVERED, after, "run", trained=False)
