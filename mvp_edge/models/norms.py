"""Batch norms that were folded into the convolutions before them, as in weights converted from files for devices.

Such a network has norms that only add a bias. It works as it is, but training would divide by a variance that the
weights already contain: a few steps bring it near chance. Its norms can be measured anew, so that it computes the same
and trains. Norms that stay in evaluation mode divide by nothing, so that such a network trains as it is.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mvp_edge.core.device import Network
from mvp_edge.core.errors import ConfigError
from mvp_edge.data import forward_batch, normalise
from mvp_edge.models.bases import Base

IMAGES = 512  # enough to measure statistics that training goes on to update
_CLOSE = 1e-3  # of a scale to 1: half precision, and the norm's own epsilon, leave less


def is_folded(model: nn.Module) -> bool:
    """Say whether the network has batch norms and all of them do nothing but add a bias.

    Norms as they are before the first training step, which do not even that, are no folded ones.
    """
    found = _norms(model)
    biased = any(bool(norm.bias.any()) for _, norm in found)
    return biased and all(
        not norm.running_mean.any() and bool(((norm.weight - 1).abs() <= _CLOSE).all())
        and bool(((norm.running_var - 1).abs() <= _CLOSE).all())
        for _, norm in found
    )  # fmt: skip


def require_trainable(model: nn.Module) -> None:
    """Refuse to train a network with folded norms, unless their statistics stay as they are.

    Raises:
        ConfigError: it has them.
    """
    if is_folded(model):
        raise ConfigError(
            "the batch norms of these weights have been folded into the convolutions, so that training would ruin "
            "them; have the norms measured anew: make a zoo of them with mvp-edge zoo build, or a base with "
            "mvp-edge pretrain --init"
        )


@torch.no_grad()
def fold(model: Network, size: tuple[int, int] = (64, 64)) -> Network:
    """Put the scale of each batch norm into the convolution whose output it takes, in place, and return the network.

    Such a norm then only adds a bias; where the convolution has one of its own, that takes the norm's. A norm that
    takes anything else stays as it is.

    Args:
        model: On the CPU.
        size: (H, W) of an image that it accepts.
    """
    for conv, norm in _convolutions_and_norms(model, size):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        conv.weight.mul_(scale.view(-1, 1, 1, 1))
        norm.bias.sub_(norm.running_mean * scale)
        norm.weight.fill_(1)
        norm.running_mean.fill_(0)
        norm.running_var.fill_(1 - norm.eps)
        if conv.bias is not None:
            conv.bias.mul_(scale).add_(norm.bias)
            norm.bias.fill_(0)
    return model


def _convolutions_and_norms(model: nn.Module, size: tuple[int, int]) -> list[tuple[nn.Conv2d, Any]]:
    """Return each batch norm that takes what a convolution gives, with the convolution; both run once for an image."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors, too, so that no two have one id
    pairs: list[tuple[nn.Conv2d, Any]] = []
    runs: Counter[nn.Module] = Counter()

    def after(conv: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(conv, nn.Conv2d):
            made[id(output)] = (conv, output)
            runs[conv] += 1

    def before(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        runs[norm] += 1
        if id(args[0]) in made:
            pairs.append((made[id(args[0])][0], norm))

    modes = [(m, m.training) for m in model.modules()]
    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                hooks.callback(module.register_forward_hook(after).remove)
        for _, norm in _norms(model):
            hooks.callback(norm.register_forward_pre_hook(before).remove)
        model.eval()(torch.zeros(1, 3, *size))
    for module, training in modes:
        module.training = training
    return [(conv, norm) for conv, norm in pairs if runs[conv] == runs[norm] == 1]


def fix_norms(model: nn.Module) -> None:
    """Let batch norms of a network in training mode use their running statistics and leave them as they are.

    Statistics that follow a narrow choice of pictures ruin a network for all others; scales and biases still train.
    """
    for _, norm in _norms(model):
        norm.eval()


@torch.inference_mode()
def unfold(model: nn.Module, images: Tensor, base: Base, device: torch.device) -> None:
    """Give batch norms the statistics of what runs through them, in place; the network computes the same as before.

    With mean m and variance v of what a norm takes, its scale becomes a * sqrt(v + eps) and its bias c + a * m, where
    x -> a x + c is what it computed before. That leaves every activation as it is, so that one pass measures all norms.

    Args:
        model: On `device`.
        images: uint8 `(N, 3, H, W)`, such as it will be trained on.
        base: How images are normalised.
        device: Where.
    """
    model.eval()
    sums: dict[str, list[Tensor]] = {}

    def measure(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].movedim(1, 0).flatten(1).cpu().double()
            mean = x.mean(1)
            sums.setdefault(name, []).append(torch.stack([torch.full_like(mean, x.shape[1]), mean, x.var(1, False)]))

        return hook

    with ExitStack() as hooks:
        for name, norm in _norms(model):
            hooks.callback(norm.register_forward_pre_hook(measure(name)).remove)
        for part in images.split(forward_batch(images)):
            model(normalise(part.to(device), base.mean, base.std))
    for name, norm in _norms(model):
        mean, variance = _pooled(torch.stack(sums[name]))
        slope = norm.weight.cpu().double() / (norm.running_var.cpu().double() + norm.eps).sqrt()
        bias = norm.bias.cpu().double() + slope * (mean - norm.running_mean.cpu().double())
        norm.weight.copy_(slope * (variance + norm.eps).sqrt())
        norm.bias.copy_(bias)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def _pooled(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance `(C,)` of all values from count, mean and variance of each part `(P, 3, C)`."""
    count, means, variances = parts.unbind(1)
    share = count / count.sum(0)
    mean = (share * means).sum(0)
    return mean, (share * (variances + (means - mean) ** 2)).sum(0)


def _norms(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the batch norms that have both statistics and an affine part, by name."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine and module.track_running_stats
    ]
