"""The script for a GPU: its logic, small, on the CPU; without a GPU it says so."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.measurements import gpu
from benchmarks.measurements.gpu import SMALL, Bench, main, measured, run
from mvp_edge.config import PruneConfig

CPU = torch.device("cpu")


def test_without_a_gpu_nothing_is_checked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu.records, "append", lambda *_: pytest.fail("a record was written"))
    with pytest.raises(SystemExit) as stop:
        main(["--allow-dirty"])
    assert stop.value.code == 2 and "no CUDA device" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_computed_agrees(tmp_path: Path) -> None:
    bench = Bench(SMALL, CPU, tmp_path)
    found = bench.agrees("test_resnet")
    assert 0 <= found["sliced_vs_masked"] < 1e-5 and 0 <= found["onnx_vs_eager"] < 1e-3
    assert bench.same_plan()["groups"] > 1
    assert bench.pretraining()["images"] == 24


def test_what_disagrees_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, right = Bench(SMALL, CPU, tmp_path), gpu.predict
    monkeypatch.setattr(gpu, "predict", lambda *words: right(*words).flip(1))
    assert "ONNX Runtime differs" in measured(lambda: bench.agrees("test_resnet"), CPU)["failed"]

    def another_each_time(config: PruneConfig) -> Any:
        config.out.mkdir()
        (config.out / "plan.json").write_text(json.dumps({"groups": [config.out.name]}))
        return SimpleNamespace(voters=())

    monkeypatch.setattr(gpu, "compress", another_each_time)
    assert "plans differ" in measured(bench.same_plan, CPU)["failed"]


def test_no_step_begins_when_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    results = run(SMALL, CPU, 0)
    assert all(r["skipped"] for r in results) and len(results) == 4
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == results


def test_what_fails_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu, "run", lambda *_: [{"step": "one", "failed": "ValueError: no"}, {"step": "two"}])
    with pytest.raises(SystemExit) as stop:
        main(["--allow-dirty", "--small", "--device", "cpu"])
    assert stop.value.code == 1 and "failed: one: ValueError: no" in capsys.readouterr().out


@pytest.mark.slow
def test_the_whole_script_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--allow-dirty", "--small", "--device", "cpu"])
    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not [s for s in steps if "failed" in s or "skipped" in s]
    assert steps[-1]["members"] == 2
