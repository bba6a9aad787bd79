"""Something is in sight from the first second on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import RESNET_ZOO
from cli import progress

from .conftest import Done, Run


@pytest.mark.parametrize("command", ["prune", "eval", "export"])
def test_the_first_stage_is_the_import_of_torch(
    run: Run, task: Path, images: Path, pruned: tuple[Path, Done], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from cli.progress import Log

    words = {
        "prune": ["--task", task, "--data", images, "--zoo", RESNET_ZOO, "--device", "cuda:99"],
        "eval": [pruned[0] / "model.onnx", "--data", images],
        "export": [pruned[0], "--target", "ort", "--out", "there"],
    }
    seen: list[str] = []
    real = Log.stage

    def stage(self: Any, name: str, total: int | None = None) -> object:
        seen.append(name)
        return real(self, name, total)

    monkeypatch.setattr(Log, "stage", stage)
    run(command, *words[command])
    assert seen[0] == "Starting"


def test_a_log_shows_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Log(10).stage("Members", 20) as stage:
        for _ in range(2):
            now[0] += 90
            stage.note("2 submitted, 5 waiting")
            stage.advance()
    with progress.Log(0).stage("Searching") as stage:
        stage.advance()
    told = "Members 1/20, 0:28:30 left (2 submitted, 5 waiting)\nMembers 2/20, 0:27:00 left (2 submitted, 5 waiting)\n"
    assert capsys.readouterr().err == told + "Searching\n"


def test_bars_show_the_time_left_of_slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich forgets steps after 30 s if it is not told otherwise, and then shows no time."""
    now = [100.0]
    bars = progress._bars()
    monkeypatch.setattr(bars, "get_time", lambda: now[0])
    with progress.Terminal(bars).stage("Members", 20) as stage:
        for _ in range(3):
            now[0] += 90
            stage.advance()
        assert bars.tasks[0].time_remaining == 17 * 90
