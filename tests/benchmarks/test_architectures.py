"""The table of timm's networks: its rows are computed again, some in each commit, so that all are seen in time."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measurements.architectures import ALL, COMMON, HARD, family, latest, limited, tried
from benchmarks.tables.architectures import passes

PARTS = 3  # a third of the table takes about two minutes of a processor core
ROOT = Path(__file__).parents[2]


def test_the_lists() -> None:
    assert (len(HARD), len(COMMON), len(set(ALL))) == (29, 48, len(ALL))
    assert family("dla34") == "dla"


def test_a_network_in_a_process_of_its_own() -> None:
    found = limited(tried, "test_resnet")
    assert found["macs_share"] == 1 and found["params_share"] > 0.9
    assert found["difference"] <= 1e-10 and found["onnx_difference"] <= 1e-4


def test_what_ends_a_process_is_told() -> None:
    def spins(arch: str) -> dict[str, Any]:
        while True:
            time.process_time()

    def fails(arch: str) -> dict[str, Any]:
        raise ZeroDivisionError(arch)

    assert "processor seconds" in limited(spins, "x", 0.2)["failed"]
    assert limited(fails, "x") == {"failed": "ZeroDivisionError: x", "traceback": True}
    assert "timm has no model" in limited(tried, "no_such_network")["failed"]


def test_no_record_has_a_traceback_or_ran_too_long() -> None:
    for record in latest():
        assert "traceback" not in record["result"], record["config"]
        assert "processor seconds" not in record["result"].get("failed", ""), record["config"]


def part() -> list[str]:
    """Return the networks that this commit computes again."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    first = int(commit[:8], 16) % PARTS
    recorded = [r["config"]["arch"] for r in latest() if passes(r["result"])]
    return recorded[first::PARTS]


@pytest.mark.slow
def test_what_was_recorded_still_holds() -> None:
    recorded = {r["config"]["arch"]: r["result"] for r in latest()}
    wrong = {}
    for arch in part():
        found = limited(lambda name: tried(name, export=False), arch)
        expected = recorded[arch]["macs_share"]
        if "failed" in found or found["macs_share"] < expected - 0.01:
            wrong[arch] = found
    assert not wrong
