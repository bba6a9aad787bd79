"""Heads on frozen features: what decay and prior do, and what is chosen on images left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.training.frozen_head import (
    DECAYS,
    NAMES_ALONE,
    Choice,
    Kind,
    NamedRows,
    choose_head,
    fit_head,
    fit_heads,
    stratified,
)
from mvp_edge.training.interpolation import folds


def clouds(each: int, apart: float, dimensions: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(each)
    return torch.randn(3 * each, dimensions, generator=generator) + apart * F.one_hot(labels, dimensions), labels


def chosen(features: Tensor, labels: Tensor, prior: Tensor, *, known: bool) -> Choice:
    parts = folds(labels, np.random.default_rng(0), 5)
    return choose_head(
        features, labels, prior, parts, all_known=known, any_known=known, generator=np.random.default_rng(1)
    )


@pytest.mark.parametrize("each", [5, 40])
def test_a_head_is_where_the_regularised_loss_is_flat(each: int) -> None:
    """With fewer images than features it is solved in the images' span, which must make no difference."""
    features, labels = clouds(each, 1.0)
    prior = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(1))
    (head,) = fit_heads(features, labels, prior, [1e-2])
    centred = features - features.mean(0)
    scale = centred.square().sum(1).mean().sqrt()
    weight = (head.weight * scale).double().requires_grad_()
    loss = F.cross_entropy(
        prior + (centred / scale).double() @ weight.T + head.bias + head.weight @ features.mean(0), labels
    )
    (loss + 1e-2 / 2 * weight.square().sum()).backward()
    assert weight.grad is not None and float(weight.grad.abs().max()) < 1e-4


def test_every_class_counts_alike() -> None:
    """The head is that of the same images with those of small classes repeated."""
    features, labels = clouds(12, 1.0)
    kept = torch.cat([torch.arange(12), torch.arange(12, 15), torch.arange(24, 28)])
    (head,) = fit_heads(features[kept], labels[kept], torch.zeros(len(kept), 3), [1e-1])
    even = torch.cat([torch.arange(12), torch.arange(12, 15).repeat(4), torch.arange(24, 28).repeat(3)])
    x = (features - features[kept].mean(0)) / (features[kept] - features[kept].mean(0)).square().sum(1).mean().sqrt()
    weight = (head.weight * (features[kept] - features[kept].mean(0)).square().sum(1).mean().sqrt()).double()
    bias = (head.bias + head.weight @ features[kept].mean(0)).double()
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    loss = F.cross_entropy(x[even].double() @ weight.T + bias, labels[even]) + 1e-1 / 2 * weight.square().sum()
    loss.backward()
    assert weight.grad is not None and bias.grad is not None
    assert float(weight.grad.abs().max()) < 1e-4 and float(bias.grad.abs().max()) < 1e-4


def test_small_classes_are_not_lost_to_a_large_one() -> None:
    features, labels = clouds(200, 4.0)
    kept = torch.cat([torch.arange(100), torch.arange(200, 203), torch.arange(400, 403)])
    head = fit_head(features[kept], labels[kept], torch.zeros(len(kept), 3), Kind(prior=False, decay=1e-2))
    right = (head(features).argmax(1) == labels).float()
    assert min(float(right[labels == label].mean()) for label in range(3)) > 0.5  # 0 where each image counts alike


def test_much_decay_leaves_the_prior_and_little_replaces_it() -> None:
    features, labels = clouds(20, 3.0)
    wrong = 5.0 * F.one_hot((labels + 1) % 3, 3).float()
    tight, *_, loose = fit_heads(features, labels, wrong, (1e4, *DECAYS))
    assert float(((wrong + tight(features)).argmax(1) == labels).float().mean()) < 0.5
    assert float(((wrong + loose(features)).argmax(1) == labels).float().mean()) == 1
    nothing = fit_head(features, labels, wrong, NAMES_ALONE)
    assert not nothing.weight.any() and not nothing.bias.any()
    last = fit_head(features, labels, wrong, Kind(prior=False, decay=DECAYS[1]))
    assert torch.allclose(last.weight, fit_heads(features, labels, torch.zeros(60, 3), DECAYS[:2])[-1].weight)


def test_names_alone_stay_where_images_say_nothing() -> None:
    features, labels = clouds(4, 0.0)
    choice = chosen(features, labels, 3.0 * F.one_hot(labels, 3).float(), known=True)
    assert choice.kind.prior
    assert choice.names_top1 == 100
    assert choice.top1 == 100


def test_images_win_over_names_that_are_wrong() -> None:
    features, labels = clouds(20, 4.0)
    choice = chosen(features, labels, 5.0 * F.one_hot((labels + 1) % 3, 3).float(), known=True)
    assert choice.kind != NAMES_ALONE
    assert choice.names_top1 == 0 and choice.top1 > 90


def test_unknown_names_have_no_accuracy_alone_and_a_curve_that_rises() -> None:
    features, labels = clouds(40, 1.5)
    choice = chosen(features, labels, torch.zeros(120, 3), known=False)
    assert choice.names_top1 is None and not choice.kind.prior
    assert [p.images for p in choice.curve] == [24, 48, 96]
    assert choice.curve[0].top1 < choice.curve[-1].top1 == choice.top1
    assert choice.gain[0] == pytest.approx(choice.curve[2].top1 - choice.curve[1].top1, abs=1e-3)
    assert not choice.logits.isnan().any()


def test_no_image_is_judged_by_a_head_that_has_seen_it() -> None:
    """Labels are noise: a head that had seen the image would name it."""
    generator = torch.Generator().manual_seed(3)
    features, labels = torch.randn(150, 400, generator=generator), torch.arange(3).repeat(50)
    choice = chosen(features, labels, torch.zeros(150, 3), known=False)
    assert choice.top1 < 50


def test_a_part_of_each_class() -> None:
    labels = torch.tensor([0] * 8 + [1] * 4 + [2])
    part = stratified(labels, np.arange(1, 13), 0.5, np.random.default_rng(0))
    assert torch.bincount(labels[part]).tolist() == [4, 2, 1]
    assert 0 not in part and part.tolist() == sorted(set(part.tolist()))


def test_rows_of_a_name_are_summed_before_the_logarithm() -> None:
    rows = torch.tensor([[1.0, 2.0, 3.0], [-200.0, 0.0, 100.0]])
    found = NamedRows(nn.Identity(), [2, 1])(rows)
    expected = torch.stack([rows[:, :2].logsumexp(1), rows[:, 2]], 1)
    assert torch.allclose(found[0], expected[0])
    assert found[1, 1] == 100 and found[1, 0] < 50
