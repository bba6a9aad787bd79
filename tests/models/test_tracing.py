"""Labels followed through one forward pass: what is tied, what stays, and the versions that this relies on."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.models.attention import attentions, embed_tokens, replace_token_embedding
from mvp_edge.models.groups import GroupTable, find_groups
from mvp_edge.models.slicing import faithfulness, sliced_copy
from mvp_edge.models.support import third

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
SIZE = (8, 8)
Between = Callable[[Tensor, Any], Tensor]


class Net(nn.Module):
    """Two convolutions with something between them."""

    def __init__(self, between: Between, taken: int = 16, **layers: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(taken, 8, 3), nn.Linear(8, 5)
        self.part, self.heads, self.parts, self.gated = 6, 4, (4, 12), (15, 1)
        self.between = between
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.between(self.first(x), self)).mean((2, 3)))


def table_of(model: nn.Module) -> GroupTable:
    """Return the groups, after a random third of each was sliced faithfully."""
    model.eval()
    table = find_groups(model, SIZE)
    images = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    assert faithfulness(model, table, third(table, set(table.widths)), images) <= 1e-10
    return table


def heads(x: Tensor, net: Any) -> Tensor:
    return x.flatten(2).reshape(len(x), net.heads, -1, 36).softmax(2).reshape(x.shape)


def partial_sum(x: Tensor, net: Any) -> Tensor:
    return torch.cat([x[:, : net.part] * 2, x[:, net.part :]], 1)


KINDS: dict[str, tuple[Net, dict[str, int]]] = {
    "PReLU": (Net(lambda x, n: n.act(x), act=nn.PReLU(16)), {"first": 16}),
    "GroupNorm by whole groups": (Net(lambda x, n: n.norm(x), norm=nn.GroupNorm(4, 16)), {"first": 4}),
    "GroupNorm of one group": (Net(lambda x, n: n.norm(x), norm=nn.GroupNorm(1, 16)), {"first": 16}),
    "halves that are multiplied": (Net(lambda x, n: torch.mul(*x.chunk(2, 1)), taken=8), {"first": 8}),
    "gated": (Net(lambda x, n: F.glu(x, 1), taken=8), {"first": 8}),
    "parts of their own sizes": (
        Net(lambda x, n: torch.cat([t + 1 for t in x.split(n.parts, 1)], 1)), {"first": 4, "first#2": 12}),
    "a part that an attribute counts": (Net(partial_sum), {"first": 6, "first#2": 10}),
    "a channel that weighs the others": (
        Net(lambda x, n: torch.mul(*x.split(n.gated, 1)), taken=15), {"first": 15}),
    "heads": (Net(heads), {"first": 4}),
    "many groups": (Net(lambda x, n: n.conv(x), conv=nn.Conv2d(16, 16, 1, groups=8)), {"first": 8}),
    "two groups": (Net(lambda x, n: n.conv(x), conv=nn.Conv2d(16, 16, 1, groups=2)), {"first": 8, "conv": 8}),
    "depthwise": (Net(lambda x, n: n.conv(x), conv=nn.Conv2d(16, 16, 1, groups=16)), {"first": 16}),
    "shuffled pixels": (Net(lambda x, n: F.pixel_shuffle(x, 2), taken=4), {"first": 4}),
    "padded channels": (Net(lambda x, n: F.pad(x, (0, 0, 0, 0, 0, 4)), taken=20), {"first": 16}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_between_two_convolutions(kind: str) -> None:
    torch.manual_seed(0)
    model, expected = KINDS[kind]
    assert table_of(model).widths == {**expected, "second": 8}


@pytest.mark.parametrize("between", [
    lambda x, n: x.sort(1).values, lambda x, n: x.softmax(1), lambda x, n: x - x.mean(1, keepdim=True),
    lambda x, n: x[:, torch.arange(16)], lambda x, n: torch.fft.fft2(x).real, lambda x, n: x + torch.ones(16, 1, 1),
    lambda x, n: x.roll(1, 1), lambda x, n: (x.flatten(2) @ x.flatten(2).mT @ x.flatten(2)).reshape(x.shape),
])  # fmt: skip
def test_channels_that_depend_on_each_other_stay_and_the_other_groups_are_sliced(
    between: Between,
) -> None:
    torch.manual_seed(0)
    assert table_of(Net(between)).widths == {"second": 8}


def test_an_attribute_follows_what_it_counts() -> None:
    model = Net(partial_sum)
    table = table_of(model)
    small = sliced_copy(model, table, third(table, set(table.widths)))
    assert (small.part, model.part) == (2, 6)


def test_an_attribute_that_counts_two_things_keeps_both_whole() -> None:
    def between(x: Tensor, net: Any) -> Tensor:
        return torch.cat([x[:, : net.part], net.other(x)[:, : net.part]], 1)

    widths = table_of(Net(between, taken=12, other=nn.Conv2d(16, 16, 1))).widths
    assert widths == {"first": 10, "other": 10, "second": 8}


def test_layers_that_read_a_group_are_its_consumers() -> None:
    table = table_of(Net(lambda x, n: n.conv(n.norm(x)), norm=nn.BatchNorm2d(16), conv=nn.Conv2d(16, 16, 1, groups=16)))
    group = table.groups[0]
    assert [c.module for c in group.consumers] == ["second"]  # a depthwise convolution reads nothing but itself
    assert [n.module for n in group.norms] == ["norm"]
    assert [(s.module, s.attribute, s.length) for s in group.sizes] == [("conv", "groups", 16)]


def test_timm_has_a_ceiling() -> None:
    """Before the ceiling is raised, the tests here must pass with the new version."""
    requirements = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert next(r for r in requirements if r.startswith("timm>")).endswith(",<1.1")
    assert version("timm").startswith("1.0.")


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
