"""The command line, run in this process."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from cli.app import app


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def error(self) -> str:
        """Return the one line of an error of ours."""
        assert self.code == 1, (self.code, self.out, self.err)
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("error: ")

    def usage_error(self) -> str:
        """Return the text of an error of usage, without its box and in one line."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert "Usage:" in self.err and "Traceback" not in self.err
        return " ".join(self.err.replace("│", " ").split())


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty directory."""
    monkeypatch.setenv("MVP_EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("cli.progress.HEARTBEAT_S", math.inf)  # a slow machine must not add lines
    return run_in(tmp_path, monkeypatch)


def run_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in a directory."""
    monkeypatch.chdir(directory)

    def call(*words: object) -> Done:
        result = CliRunner().invoke(app, [str(w) for w in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Class list with three of the classes."""
    path = tmp_path / "classes.txt"
    path.write_text("tiger\napple\nrose\n")
    return path


@pytest.fixture
def zoo(tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of one's own, to be changed or damaged."""
    return Path(shutil.copytree(tiny_zoo, tmp_path_factory.mktemp("own") / "tiny"))


@pytest.fixture(scope="session")
def pruned(images: Path, tiny_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """A result directory of `prune --json`, and what the command printed."""
    where = tmp_path_factory.mktemp("pruned")
    (where / "classes.txt").write_text("tiger\napple\nrose\n")
    with pytest.MonkeyPatch.context() as patch:
        done = run_in(where, patch)(
            "prune", "--task", "classes.txt", "--data", images, "--zoo", tiny_zoo, "--json", "--seed", 1,
            "--keep", 0.5, "--channel-multiple", 4, "--neighbours", 2, "--iterations", 4, "--batch-size", 8,
        )  # fmt: skip
    return where / "out", done
