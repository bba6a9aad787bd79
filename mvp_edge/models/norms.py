"""Batch norms that were folded into the convolutions before them, as in weights converted from files for devices.

Such a network has norms that only add a bias. It works as it is, but training would divide by a variance that the
weights already contain: a few steps bring it near chance. Its norms can be measured anew, so that it computes the same
and trains. Norms that stay in evaluation mode divide by nothing, so that such a network trains as it is.
"""

from __future__ import annotations

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
def fold(model: Network) -> Network:
    """Put the scale of each batch norm into the convolution before it, in place, and return the network.

    A norm then only adds a bias.

    The convolution is the module before the norm, in the order of the network's definition.

    Raises:
        ValueError: there is no convolution without a bias of its own of the norm's width before it.
    """
    before: nn.Module | None = None
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if not isinstance(before, nn.Conv2d) or before.bias is not None or len(before.weight) != len(module.weight):
                raise ValueError(f"{name} does not follow a convolution without a bias of its own")
            norm: Any = module
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            before.weight.mul_(scale.view(-1, 1, 1, 1))
            norm.bias.sub_(norm.running_mean * scale)
            norm.weight.fill_(1)
            norm.running_mean.fill_(0)
            norm.running_var.fill_(1 - norm.eps)
        if isinstance(module, nn.Conv2d | nn.modules.batchnorm._BatchNorm):
            before = module
    return model


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
