"""Something is in sight from the first second on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import RESNET_ZOO

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
