"""The same seed on the same machine gives the same files, also where a stopwatch would say otherwise."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from mvp_edge.config import FitConfig, PruneConfig, VoteConfig
from mvp_edge.prune.job import compress

SEED = 3


def delivered(out: Path, images: Path, zoo: Path) -> tuple[bytes, bytes, np.ndarray, bool]:
    """Return plan, weights, and logits of the file for fixed pixels of a run with default precision."""
    task = out.with_suffix(".txt")
    task.write_text("tiger\napple\nrose\n")
    config = PruneConfig(
        task,
        str(images),
        out,
        zoo=str(zoo),
        device="cpu",
        seed=SEED,
        precision="fp32",
        vote=VoteConfig(keep=0.5, channel_multiple=4, neighbours=2),
        fit=FitConfig(iterations=6, batch_size=8),
    )
    report = compress(config)
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32)
    logits = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    plan, weights = (out / "plan.json").read_bytes(), (out / "weights.safetensors").read_bytes()
    return plan, weights, np.asarray(logits), report.environment["bf16"]


def test_two_runs_are_equal_bit_for_bit(
    images: Path, tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = delivered(tmp_path / "a", images, tiny_zoo)
    torch.manual_seed(12345)  # runs draw from their own streams
    again = delivered(tmp_path / "b", images, tiny_zoo)
    assert first[:2] == again[:2]
    assert (first[2] == again[2]).all()
    assert first[3] is again[3]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": not first[3]})
    other = delivered(tmp_path / "c", images, tiny_zoo)
    assert other[3] is not first[3] and (other[2] != first[2]).any()  # so it does matter


@pytest.mark.slow
def test_two_processes_are_equal_bit_for_bit(
    images: Path, tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has other addresses of objects, and other hashes of strings; both compute in float32 here."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    here = delivered(tmp_path / "here", images, tiny_zoo)
    script = "import sys, torch; torch.cpu.get_capabilities = dict\n"
    script += "from pathlib import Path; from tests.prune.test_determinism import delivered, digest\n"
    script += "print(digest(delivered(*map(Path, sys.argv[1:]))))"
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "there", images, tiny_zoo],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-1] == digest(here)


def digest(made: tuple[bytes, bytes, np.ndarray, bool]) -> str:
    """Return the checksum of what `delivered` returns."""
    return hashlib.sha256(made[0] + made[1] + made[2].tobytes() + bytes(made[3])).hexdigest()
