"""The tool delivers what it delivered when that was recorded.

`record.py` says what is recorded, and at which commits.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
