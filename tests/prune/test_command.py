from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import prune as command
from cli.app import app
from mvp_edge.config import Budget, FitOverrides, PruneConfig, VoteConfig
from mvp_edge.prune.job import Job
from mvp_edge.prune.request import prune_command
from mvp_edge.report import Report
from tests.report.example import example_report

TASK = Path("my classes.txt")


def test_what_is_usual_is_left_out() -> None:
    assert prune_command(PruneConfig(TASK, None)) == "mvp-edge prune --task 'my classes.txt' --seed 0"


@pytest.mark.parametrize(
    "config",
    [
        PruneConfig(TASK, None),
        PruneConfig(TASK, "photos/", zoo="animals", seed=3, precision="int8", input="uint8-nhwc", schedule="fixed"),
        PruneConfig(TASK, "x", vote=VoteConfig("smsp", 0.123456789, "auto", 3, "wordnet", "specialist", "sample", 0.7)),
        PruneConfig(TASK, None, base="timm:test_resnet", weights=Path("my weights.safetensors")),
        PruneConfig(TASK, "x", fit=FitOverrides(5, 32, 0.02, None, 0.0, "adamw")),
        PruneConfig(TASK, "x", budget=Budget(0.5, 7_654_321, 99_999, 300.25)),
    ],
)
def test_the_command_repeats_the_run(config: PruneConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[PruneConfig] = []

    def note(config: PruneConfig, *_: object) -> Report:
        read.append(config)
        return Report.from_json(example_report())

    monkeypatch.setattr(
        "mvp_edge.prune.job.read_job", lambda config, _: Job(config, None, lambda *_: pytest.fail("made"))
    )
    monkeypatch.setattr("mvp_edge.prune.job.compress", note)
    done = CliRunner().invoke(app, shlex.split(prune_command(config))[1:])
    assert done.exit_code == 0, done.output
    (found,) = read
    fit = config.fit.over(command.RECIPE) if isinstance(config.fit, FitOverrides) else config.fit
    assert isinstance(found.fit, FitOverrides) and found.fit.over(command.RECIPE) == fit
    for name in ("task", "data", "zoo", "base", "weights", "vote", "budget", "seed", "input", "precision", "schedule"):
        assert getattr(found, name) == getattr(config, name)
