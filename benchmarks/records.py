"""Records: JSON Lines that runs append to and nothing changes, with the commit that ran.

results/NAME.jsonl               the rows of an experiment's table, in order: titles and the paper's figures
results/trials/NAME.jsonl        one line for each trial: a row's method on one target task
results/measurements/NAME.jsonl  one line for each measurement: its `config` and its `result`
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mvp_edge.core.environment import environment
from mvp_edge.core.errors import ConfigError

Line = dict[str, Any]
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = ROOT / "docs" / "images"
MEASUREMENTS = RESULTS / "measurements"
CODE = ("mvp_edge", "cli", "benchmarks", "pyproject.toml", ":(exclude)benchmarks/results")


def read_lines(path: Path) -> list[Line]:
    """Return the records of a file, oldest first; none if there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def append_line(path: Path, line: Line) -> None:
    """Append a record with the time and the commit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"time": now, **code(), **line}) + "\n")


def read(question: str) -> list[Line]:
    """Return all records of a measurement, oldest first."""
    return read_lines(MEASUREMENTS / f"{question}.jsonl")


def append(question: str, config: Line, result: Line, device: torch.device) -> None:
    """Append a measurement."""
    line = {"config": config, "environment": environment(device), "result": result}
    append_line(MEASUREMENTS / f"{question}.jsonl", line)


@cache
def code() -> Line:
    """Return the commit that runs, and whether the code differs from it or is in no repository."""
    commit = _git("rev-parse", "--short", "HEAD")
    return {"commit": commit, "dirty": not commit or bool(_git("status", "--porcelain", "--", *CODE))}


def require_clean(allow_dirty: bool) -> None:
    """Refuse to run uncommitted code.

    Raises:
        ConfigError: the code differs from its commit and `allow_dirty` is not set.
    """
    if code()["dirty"] and not allow_dirty:
        changed = ", ".join(line.split()[-1] for line in _git("status", "--porcelain", "--", *CODE).splitlines())
        raise ConfigError(
            f"the code is not committed ({changed or 'no git repository'}), so the records would name no commit that "
            "made them; commit it first, or give --allow-dirty, which marks them in the tables"
        )


def dirty_mark(lines: Sequence[Line]) -> str:
    """Return the sign that tables put behind what comes from uncommitted code, with the number of such records."""
    count = sum(line["dirty"] for line in lines)
    return f" †{count}" if count else ""


def dirty_note(table: str) -> str:
    """Return the footnote of a table's signs; empty if it has none."""
    return "\n\n†N: N of the records were made by code with uncommitted changes." if "†" in table else ""


def _git(*words: str) -> str:
    """Return git's output in this repository; empty where there is none."""
    done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.rstrip()
