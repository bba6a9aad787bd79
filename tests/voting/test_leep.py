import math

import pytest
import torch

from mvp_edge.voting.leep import leep


def test_perfect_predictions_have_no_loss() -> None:
    assert leep(torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 0])) == pytest.approx(0)
    assert leep(torch.eye(3)[[2, 0, 1]], torch.tensor([0, 1, 2])) == pytest.approx(0)


def test_uninformative_predictions_give_the_entropy_of_the_labels() -> None:
    assert leep(torch.full((8, 4), 0.25), torch.arange(2).repeat(4)) == pytest.approx(-math.log(2))


def test_by_hand() -> None:
    theta = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    # P(y, z) = theta / 2; P(y=0|z) = 0.8/1.2, 0.2/0.8; expected = .8*.8/1.2 + .2*.2/.8 and .4*.4/1.2 + .6*.6/.8
    expected = (math.log(0.64 / 1.2 + 0.04 / 0.8) + math.log(0.16 / 1.2 + 0.36 / 0.8)) / 2
    assert leep(theta, torch.tensor([0, 1])) == pytest.approx(expected)


def test_a_source_class_without_mass_is_no_division_by_zero() -> None:
    theta = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert leep(theta, torch.tensor([0, 1])) == pytest.approx(-math.log(2))
