"""The state of a run: what a killed one goes on with."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mvp_edge.core.errors import ConfigError
from mvp_edge.training.checkpoint import Checkpoint


def run(optimizer: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    rate = {"lr": 0.1, "momentum": 0.9} if optimizer == "SGD" else {"lr": 0.1}
    return model, getattr(torch.optim, optimizer)(model.parameters(), **rate)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_a_run_that_was_stopped_takes_the_same_steps(kind: str, tmp_path: Path) -> None:
    model, optimizer = run(kind)
    checkpoint = Checkpoint(tmp_path / "state", {"seed": 0})
    assert checkpoint.load(model, optimizer) == 0  # nothing to restore
    step(model, optimizer, 1)
    checkpoint.save(model, optimizer, 1)
    other, again = run(kind)
    assert checkpoint.load(other, again) == 1
    for m, o in ((model, optimizer), (other, again)):
        step(m, o, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    model, optimizer = run("SGD")
    Checkpoint(tmp_path / "state", {"seed": 0}).save(model, optimizer, 5)
    with pytest.raises(ConfigError, match="other settings"):
        Checkpoint(tmp_path / "state", {"seed": 1}).load(model, optimizer)


def test_a_state_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    model, optimizer = run("SGD")
    (tmp_path / "state").mkdir()
    with pytest.raises(ConfigError, match=r"state.*--out"):
        Checkpoint(tmp_path / "state", {}).save(model, optimizer, 1)
