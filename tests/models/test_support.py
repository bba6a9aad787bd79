"""Groups are tried on random weights; those that fail are refused, the others stay."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from mvp_edge.core.errors import PlanError
from mvp_edge.models.groups import find_groups
from mvp_edge.models.support import check_architecture, faithful_groups, trial_size, try_groups
from tests.bases import small_base

SIZE = (16, 16)


class Fixed(nn.Module):
    """A network of which one layer has its size written down in the code, so that it cannot be sliced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x.reshape(len(x), 12, *x.shape[2:])
        return self.head(self.second(x).mean((2, 3)))

    def get_classifier(self) -> nn.Module:
        return self.head


def test_a_group_that_fails_stays_whole_and_the_others_are_sliced() -> None:
    model = Fixed().eval()
    trial = try_groups(model, find_groups(model, SIZE), SIZE)
    assert list(trial.table.widths) == ["second"]
    assert "does not run" in trial.refused["first"]
    assert 0 <= trial.difference <= 1e-10


def test_a_network_is_refused_if_all_groups_fail() -> None:
    model = Fixed()
    model.second = nn.Conv2d(12, 1, 3)
    model.head = nn.Linear(1, 5)
    with pytest.raises(PlanError, match="no group"):
        try_groups(model.eval(), find_groups(model, SIZE), SIZE)


def test_what_can_be_pruned_in_shares() -> None:
    support, trial = check_architecture(small_base("fixed", SIZE), Fixed().eval())
    params = {"first": 3 * 12 * 9 + 12, "second": 12 * 8 * 9 + 8, "head": 8 * 5 + 5}
    sliced = params["second"] + params["head"] - 5  # the biases of the classes stay
    assert support.params_share == pytest.approx(sliced / sum(params.values()))
    assert list(support.whole) == ["first"]
    assert support.groups == len(trial.table.groups) == 1 and list(support.refused) == ["first"] and not support.head


def test_groups_are_cached_by_what_the_network_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path))
    model = Fixed().eval()
    made = faithful_groups(model, "fixed", SIZE)
    (path,) = tmp_path.glob("groups/*")
    with monkeypatch.context() as patch:
        patch.setattr("mvp_edge.models.support.find_groups", lambda *_: pytest.fail("was found again"))
        assert faithful_groups(model, "fixed", SIZE) == made
    path.write_bytes(gzip.compress(b"{}"))
    assert faithful_groups(model, "fixed", SIZE) == made
    model.first = nn.Conv2d(3, 12, 5)
    faithful_groups(model, "fixed", SIZE)
    assert len(list(tmp_path.glob("groups/*"))) == 2


def test_the_smallest_picture() -> None:
    assert trial_size(timm.create_model("test_resnet").eval(), (160, 160)) == (64, 64)
    assert trial_size(timm.create_model("vit_tiny_patch16_224").eval(), (224, 224)) == (224, 224)
    assert trial_size(nn.Identity(), (32, 32)) == (32, 32)


def test_trying_leaves_the_network_as_it_was() -> None:
    model = Fixed().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try_groups(model, find_groups(model, SIZE), SIZE)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
