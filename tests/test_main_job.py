"""The main job on real images, from the typed command to the report."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import RESNET_ZOO
from mvp_edge.data import open_source
from mvp_edge.export import OnnxClassifier

COPIED = {"00043.webp", "00046.webp", "00079.webp", "05106.webp", "05157.webp"}
"""Test images of CIFAR-100 that are training images, too."""
FRUIT = "apple\norange\npear\nmushroom\nsweet_pepper\n"
ZOO = ("--zoo", RESNET_ZOO)


@pytest.fixture(scope="module")
def cifar100() -> Path:
    """Directory with the CIFAR-100 image folders; where `MVP_EDGE_DATA` is set they must be there."""
    root = os.environ.get("MVP_EDGE_DATA")
    if not root:
        pytest.skip("set MVP_EDGE_DATA to the directory that holds cifar100/{train,test}/CLASS")
    path = Path(root) / "cifar100"
    assert (path / "train" / "apple").is_dir(), f"MVP_EDGE_DATA is set, but {path} holds no CIFAR-100 image folders"
    return path


def prune(where: Path, *flags: str) -> tuple[dict, Path]:
    (where / "classes.txt").write_text(FRUIT)
    command = [sys.executable, "-m", "mvp_edge_cli", "prune", "--task", "classes.txt", "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=where, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), where / "out"


@pytest.fixture(scope="module")
def result(cifar100: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    return prune(tmp_path_factory.mktemp("main"), *ZOO, "--data", str(cifar100))


def test_json_is_the_report(result: tuple[dict, Path]) -> None:
    report, out = result
    assert json.loads((out / "report.json").read_text()) == report
    assert sorted(f.name for f in out.iterdir()) == sorted(report["files"])
    assert (out / "labels.txt").read_text() == FRUIT
    assert report["task"]["classes"] == FRUIT.split()
    for stage in ("start", "rank", "vote", "slice", "fine_tune", "evaluate", "measure", "export", "total"):
        assert report["seconds"][stage] >= 0


def test_the_model_is_good_small_and_fast(result: tuple[dict, Path]) -> None:
    report, _ = result
    assert report["accuracy"]["n"] == report["pictures"]["used"]["test"] == 500 - len(COPIED)
    assert {Path(file).name for file, _ in report["pictures"]["copied"]} == COPIED
    assert report["accuracy"]["top1"] >= 80
    assert report["base_accuracy"]["n"] == 200 and report["base_accuracy"]["top1"] > report["accuracy"]["top1"]
    assert report["macs"] < report["base_macs"] / 50
    assert 0 < report["unprunable_macs"] < report["macs"] / 10
    assert report["bytes"]["onnx"] < 600_000
    assert report["latency_ms"]["pruned"]["median"] * 5 < report["latency_ms"]["dense"]["median"]
    assert report["parity_max_abs_diff"] <= 1e-4
    assert report["sliced_vs_masked_max_abs_diff"] <= 1e-5
    assert {g["kept"] for g in report["groups"]} == {8, 16, 24, 48}


def test_the_delivered_file_scores_what_the_report_says(result: tuple[dict, Path], cifar100: Path) -> None:
    report, out = result
    model = OnnxClassifier(out / "model.onnx")
    assert model.labels == tuple(FRUIT.split())
    test = open_source(str(cifar100)).load(model.labels, "test", model.input_size)
    own = np.array([Path(file).name not in COPIED for file in test.files])
    right = (model.predict(test.images.numpy()).argmax(1) == test.labels.numpy())[own]
    assert 100 * right.mean() == pytest.approx(report["accuracy"]["top1"], abs=0.01)
    rows = np.array(report["accuracy"]["confusion"])
    assert rows.sum() == own.sum() == 500 - len(COPIED) and np.trace(rows) == right.sum()


def test_the_delivered_file_is_self_contained(result: tuple[dict, Path]) -> None:
    _, out = result
    proto = onnx.load(out / "model.onnx", load_external_data=False)
    assert not any(t.external_data for t in proto.graph.initializer)
    page = (out / "report.html").read_text()
    assert "sweet_pepper" in page or "sweet pepper" in page
    assert 'src="http' not in page and 'href="http' not in page


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(cifar100: Path, tmp_path: Path) -> None:
    words = [*ZOO, "--data", str(cifar100), "--iterations", "12", "--seed", "3"]
    first, out = prune(tmp_path, *words)
    plan = (out / "plan.json").read_text()
    second, out = prune(tmp_path, *words, "--force")
    assert (out / "plan.json").read_text() == plan
    assert first["accuracy"] == second["accuracy"]
    assert first["voters"] == second["voters"]


@pytest.mark.slow
def test_names_alone_give_a_model_whose_accuracy_is_told_truly(cifar100: Path, tmp_path: Path) -> None:
    report, out = prune(tmp_path, *ZOO)
    model = OnnxClassifier(out / "model.onnx")
    test = open_source(str(cifar100)).load(model.labels, "test", model.input_size)
    top1 = 100 * (model.predict(test.images.numpy()).argmax(1) == test.labels.numpy()).mean()
    assert top1 >= 80
    assert report["accuracy"]["n"] == 500
    assert report["accuracy"]["top1"] == pytest.approx(top1, abs=1)
    assert report["data"] is None and report["settings"]["fit"]["iterations"] == 0
    assert report["bytes"]["onnx"] < 600_000


def test_the_seconds_told_are_those_that_the_user_waits(tmp_path: Path) -> None:
    """What is left is the interpreter's own start, the last lines of output, and its end."""
    begin = time.perf_counter()
    report, _ = prune(tmp_path, *ZOO, "--precision", "fp32")
    waited = time.perf_counter() - begin
    assert report["seconds"]["start"] > 0.5
    assert 0.75 * waited < report["seconds"]["total"] < waited
