"""The internals of torch-pruning and timm that this package relies on, in the versions that it allows."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from mvp_edge.models.attention import attentions, embed_tokens, replace_token_embedding
from mvp_edge.models.dependencies import coupled_groups

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize(("package", "minor"), [("torch-pruning", "1.6"), ("timm", "1.0")])
def test_the_version_has_a_ceiling(package: str, minor: str) -> None:
    """Before the ceiling is raised, the tests below must pass with the new version."""
    required = next(
        r for r in tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"] if r.startswith(f"{package}>")
    )
    major, least = minor.split(".")
    assert required.endswith(f",<{major}.{int(least) + 1}")
    assert version(package).startswith(f"{minor}.")


def test_couplings_of_two_convolutions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)
            self.head = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.second(self.norm(self.first(x))).mean((2, 3)))

    model = Net()
    found = coupled_groups(model, (8, 8), model.head, (nn.Conv2d, nn.Linear))
    names: dict[Any, str] = {module: name for name, module in model.named_modules()}
    by_root = {names[group[0].target]: group for group in found}
    assert set(by_root) == {"first", "second"}
    members = {(names[c.target], c.is_output) for c in by_root["first"] if c.target in names}
    assert members == {("first", True), ("norm", True), ("second", False)}
    assert all(list(c.positions) == list(c.units) == [0, 1, 2, 3] for c in by_root["first"])
    assert model.training


def test_the_token_embedding_of_a_transformer() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3).eval()
    assert len(attentions(vit)) == 12
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = vit(images)
        table = embed_tokens(vit, torch.zeros(1, 4, 192))
        assert table.shape == (1, 5, 192)

        def embed(patches: torch.Tensor) -> torch.Tensor:
            tokens = patches.flatten(2).transpose(1, 2)
            return torch.cat([torch.zeros(len(tokens), 1, 192), tokens], 1) + table

        replace_token_embedding(vit, embed)
        torch.testing.assert_close(vit(images), expected)
