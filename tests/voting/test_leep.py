import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp_edge.voting.leep import leep

DRAWS = 10


def test_perfect_predictions_near_zero_as_images_grow() -> None:
    scores = [leep(torch.eye(5).repeat(n, 1), torch.arange(5).repeat(n)) for n in (2, 20, 200)]
    assert scores == sorted(scores)
    assert scores[0] > -0.6 and -0.01 < scores[-1] < 0


def test_the_order_of_source_classes_does_not_matter() -> None:
    labels = torch.tensor([0, 1, 2] * 4)
    assert leep(torch.eye(3)[[2, 0, 1] * 4], labels) == pytest.approx(leep(torch.eye(3)[[0, 1, 2] * 4], labels))


def test_uninformative_predictions_score_below_the_entropy_of_the_labels() -> None:
    """Without the image itself its class is a little rarer among the others."""
    labels = torch.arange(2).repeat(400)
    assert -math.log(2) - 0.01 < leep(torch.full((800, 4), 0.25), labels) <= -math.log(2)


def test_by_hand() -> None:
    theta = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    # Image 0 (class 0): the other image shows 0 of class 0 and (.4, .6) in all; with a tenth of an image of the prior
    # (.5, .5), P(0|z) = .05 / .5 and .05 / .7. Image 1 (class 1): P(1|z) = .05 / .9 and .05 / .3.
    expected = math.log(0.8 * 0.05 / 0.5 + 0.2 * 0.05 / 0.7) + math.log(0.4 * 0.05 / 0.9 + 0.6 * 0.05 / 0.3)
    assert leep(theta, torch.tensor([0, 1])) == pytest.approx(expected / 2)


def test_a_source_class_without_mass_is_no_division_by_zero() -> None:
    theta = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert math.isfinite(leep(theta, torch.tensor([0, 1])))


def test_a_class_with_one_image_is_scored_by_its_frequency() -> None:
    theta = torch.eye(2)[[0, 0, 0, 0, 1]]
    assert leep(theta, torch.tensor([0, 0, 0, 0, 1])) > leep(theta[[0, 0, 0, 4, 0]], torch.tensor([0, 0, 0, 0, 1]))


@settings(max_examples=40, deadline=None)
@given(
    ways=st.integers(2, 20),
    images=st.integers(1, 30),
    classes=st.integers(2, 1000),
    sharpness=st.floats(0, 20),
    seed=st.integers(0, 99),
)
def test_noise_scores_at_most_chance(ways: int, images: int, classes: int, sharpness: float, seed: int) -> None:
    """On average over draws: a few images of a sharp member match by accident in some of them."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(ways).repeat_interleave(images)
    draws = [(sharpness * torch.randn(len(labels), classes, generator=draw)).softmax(1) for _ in range(DRAWS)]
    assert sum(leep(theta, labels) for theta in draws) / DRAWS <= -math.log(ways) + 0.05


@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 99))
def test_scores_are_log_probabilities(images: int, ways: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    theta = torch.randn(images * ways, 4, generator=draw).softmax(1)
    assert leep(theta, torch.arange(ways).repeat(images)) <= 0
