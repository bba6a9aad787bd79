"""Images generated from a network: the losses by hand, and that they are of the classes asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mvp_edge.build.inversion import Critic, NormLoss, _holes, _Moments, _shifted, invert
from mvp_edge.config import ExemplarConfig
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.bases import Base, load_base
from mvp_edge.training.loop import predict
from tests.bases import small_base

CPU = torch.device("cpu")
CONFIG = ExemplarConfig(steps=40, lr=1.0, norm=0.5, crop=2, cutout=4)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generate(base: Base, model: nn.Module, labels: Tensor, config: ExemplarConfig = CONFIG, seed: int = 0) -> Tensor:
    critics = [Critic(model, cutout=config.cutout)]
    return invert(critics, base, labels, config, generator=draw(seed), device=CPU)


def test_the_network_sees_the_classes_that_were_asked_for(tiny_base: Path) -> None:
    base, model = load_base(str(tiny_base))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    labels = torch.arange(12) % 6
    images = generate(base, model, labels)
    assert images.dtype == torch.uint8
    assert images.shape == (12, 3, 32, 32)
    said = predict(model, images, base, CPU).argmax(1)
    assert (said == labels).float().mean() > 0.9
    noise = torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=draw())
    assert (predict(model, noise, base, CPU).argmax(1) == labels).float().mean() < 0.5
    assert len({i.numpy().tobytes() for i in images}) == 12  # images of a class differ
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_the_statistics_come_nearer_to_the_running_ones(tiny_base: Path) -> None:
    base, model = load_base(str(tiny_base))
    labels = torch.arange(24) % 6

    def distance(images: Tensor) -> float:
        with NormLoss(model) as norms, torch.no_grad():
            model((images / 255 - 0.5) / 0.25)
            return float(norms.take())

    plain = replace(CONFIG, crop=0, cutout=0)
    ignored, matched = (distance(generate(base, model, labels, replace(plain, norm=w))) for w in (0.0, 20.0))
    assert matched < 0.7 * ignored


def test_the_same_draws_give_the_same_images(tiny_base: Path) -> None:
    base, model = load_base(str(tiny_base))
    labels, short = torch.arange(6), replace(CONFIG, steps=3)
    first = generate(base, model, labels, short)
    assert torch.equal(first, generate(base, model, labels, short))
    assert not torch.equal(first, generate(base, model, labels, short, seed=1))


def test_every_critic_counts(tiny_base: Path) -> None:
    base, model = load_base(str(tiny_base))
    labels, short = torch.arange(6), replace(CONFIG, steps=3)
    made = [
        invert([Critic(model), *more], base, labels, short, generator=draw(), device=CPU)
        for more in ([], [Critic(model, 1.0, cutout=9)])
    ]
    assert not torch.equal(made[0], made[1])


def test_moments_are_mean_and_variance_with_their_gradients() -> None:
    x = torch.randn(3, 2, 4, 5, generator=draw(), dtype=torch.float32).add(1).requires_grad_()
    weights = torch.randn(2, 2, generator=draw(1))
    mean, var = _Moments.apply(x)  # pyright: ignore[reportGeneralTypeIssues]
    assert torch.allclose(mean, x.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(var, x.var((0, 2, 3)), atol=1e-5)
    (found,) = torch.autograd.grad((weights[0] * mean + weights[1] * var).sum(), x)
    (wanted,) = torch.autograd.grad((weights[0] * x.mean((0, 2, 3)) + weights[1] * x.var((0, 2, 3))).sum(), x)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_norm_loss_is_the_divergence_of_two_normal_distributions() -> None:
    norm = nn.BatchNorm2d(2, eps=0.0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(torch.tensor([0.5, -1.0]))
    norm.running_var.copy_(torch.tensor([2.0, 0.25]))
    x = torch.randn(8, 2, 6, 6, generator=draw())
    network = nn.Sequential(norm).eval()
    with NormLoss(network) as norms:
        network(x)
        found = norms.take()
    mine = torch.distributions.Normal(x.mean((0, 2, 3)), x.std((0, 2, 3)))
    running = torch.distributions.Normal(norm.running_mean, norm.running_var.sqrt())
    assert torch.allclose(found, torch.distributions.kl_divergence(mine, running).mean(), atol=1e-5)
    assert not network[0]._forward_pre_hooks


def test_a_network_without_batch_norms_is_refused() -> None:
    base = small_base("none", (8, 8), classes=("a", "b"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    with pytest.raises(ConfigError, match="no batch norms"):
        generate(base, network, torch.arange(2))


def test_shifts_move_whole_images() -> None:
    images = torch.zeros(64, 3, 8, 8)
    images[:, :, 3, 5] = 1.0
    moved = _shifted(images, 2, draw())
    assert moved.shape == images.shape
    assert (moved.sum((1, 2, 3)) == 3).all()
    places = {tuple(p) for p in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert {r for r, _ in places} == {1, 2, 3, 4, 5}
    assert {c for _, c in places} <= {0, 1, 2, 3, 4, 5, 6, 7}
    assert torch.equal(
        _shifted(images[:1].expand(64, -1, -1, -1), 0, draw()).amax(0)[0, 3] > 0, torch.arange(8) % 3 == 2
    )


def test_holes_are_squares_within_the_image() -> None:
    holes = _holes(torch.zeros(200, 3, 8, 8), 4, draw())
    assert holes.shape == (200, 1, 8, 8)
    areas = holes.sum((1, 2, 3))
    assert areas.max() == 16
    assert areas.min() == 4  # a quarter of it, in a corner
