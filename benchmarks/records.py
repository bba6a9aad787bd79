"""One JSON line a result: what was run, on what, and what came out."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mvp_edge.core.environment import environment

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parents[1] / "docs" / "images"
MEASUREMENTS = RESULTS / "measurements"  # RESULTS itself holds rows of experiments, which have other fields


def append(question: str, config: dict[str, Any], result: dict[str, Any], device: torch.device) -> None:
    """Add a record to `results/measurements/QUESTION.jsonl`."""
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **code(),
        "config": config,
        "environment": environment(device),
        "result": result,
    }
    MEASUREMENTS.mkdir(parents=True, exist_ok=True)
    with (MEASUREMENTS / f"{question}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read(question: str) -> list[dict[str, Any]]:
    """Return all records of a question, oldest first."""
    path = MEASUREMENTS / f"{question}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@cache
def code() -> dict[str, Any]:
    """Return the commit that runs, and whether files differ from it other than those that runs write."""
    written = (":(top,exclude)benchmarks/results", ":(top,exclude)README.md", ":(top,exclude)docs")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *written)
    return {"commit": _git("rev-parse", "--short", "HEAD"), "dirty": bool(changed)}


def _git(*words: str) -> str:
    """Return what git says in this repository; empty where there is none."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return done.stdout.strip()
