"""Images out of a network: what it takes for its classes, generated from noise without any image of a data set.

References:
    Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion", CVPR 2020.
    Olah et al., "Feature Visualization", Distill 2017, for the Fourier parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.config import ExemplarConfig
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.bases import Base
from mvp_edge.core.device import autocast
from mvp_edge.core.progress import SilentProgress, Stage

# Luminance and two opponent colours: natural images vary least in the last ones. Rows are components, columns RGB.
COLOURS = ((1.0, 1.0, 1.0), (0.35, 0.0, -0.35), (0.12, -0.24, 0.12))
GAIN = 4.0  # of all coefficients: those of natural images are then about 1, which suits the optimiser's rate
BRIGHTNESS = 4.0  # of the mean colour against the lowest frequency: images differ most in it
START = 0.5  # standard deviation of the coefficients before the first step
VARIATION = 1e-3  # weight of the differences between neighbouring pixels
CLIPPING = 5.0  # weight of what lies outside the range of pixels
WARMUP_STEPS = 10


@dataclass(frozen=True, eq=False)
class Critic:
    """A network that the images have to please.

    Attributes:
        model: In evaluation mode, one output a class.
        weight: Of its loss.
        cutout: Side in pixels of the Cutout squares it was trained with. Its norm statistics are those of such images:
            without the squares, the generated images would carry grey squares of their own.
    """

    model: nn.Module
    weight: float = 1.0
    cutout: int = 0


class NormLoss:
    """Distance of a batch's statistics from the running ones, over all batch norms of a network.

    It is the mean over channels, summed over layers, of the Kullback-Leibler divergence between two normal
    distributions. The original takes the Euclidean distance of means and variances, in which few channels of large
    variance outweigh the rest: with it, 100 steps did not bring the images to their classes; with this they do.

    Use as a context manager; every forward pass inside adds to `value` until `take` is called.

    Raises:
        ConfigError: the network has no batch norm with running statistics.
    """

    def __init__(self, model: nn.Module) -> None:
        self._norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None]
        if not self._norms:
            raise ConfigError(
                "this model has no batch norms, whose statistics tell what images look like; use a base model with "
                "batch norms, such as a ResNet or MobileNet, or the images of another zoo: mvp-edge zoo exemplars "
                "DIR --of ZOO"
            )
        self._handles: list[Any] = []
        self._values: list[Tensor] = []

    def __enter__(self) -> NormLoss:
        self._handles = [m.register_forward_pre_hook(self._measure) for m in self._norms]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._values.clear()

    def take(self) -> Tensor:
        """Return the loss of the last forward pass."""
        total = torch.stack(self._values).sum()
        self._values.clear()
        return total

    def _measure(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        mean, var = _Moments.apply(inputs[0])  # pyright: ignore[reportGeneralTypeIssues]
        wanted = module.running_var + module.eps
        ratio = (var + module.eps) / wanted
        self._values.append(0.5 * ((mean - module.running_mean) ** 2 / wanted + ratio - 1 - ratio.log()).mean())


class _Moments(torch.autograd.Function):
    """Mean and variance of each channel of `(N, C, H, W)`, in float32.

    Batch norm's own kernel measures them; over the obvious expression it saves half of the time of a whole step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ones = torch.ones(x.shape[1], device=x.device)
        mean, var, zeros = torch.zeros_like(ones), ones.clone(), torch.zeros_like(ones)
        F.batch_norm(x, mean, var, ones, zeros, training=True, momentum=1.0)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        n = x.numel() // x.shape[1]
        slope = 2 * grads[1] / (n - 1)
        offset = grads[0] / n - slope * mean
        slope, offset = (v.to(x.dtype).view(1, -1, 1, 1) for v in (slope, offset))
        return torch.addcmul(offset, x, slope)


class Canvas:
    """Images `(N, 3, H, W)`, normalised, held as Fourier coefficients of three colour components.

    Coefficients are scaled by the inverse of their frequency, as in natural images: the optimiser then moves shapes
    as readily as grain.

    Attributes:
        coefficients: `(N, 3, H, W // 2 + 1, 2)`, real and imaginary; what is optimised.
    """

    def __init__(self, n: int, base: Base, generator: torch.Generator, device: torch.device) -> None:
        self._size = base.input_size
        height, width = self._size
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        lowest = 1 / max(height, width)
        scale = lowest / (rows**2 + columns**2).sqrt().clamp(min=lowest)
        scale[0, 0] = BRIGHTNESS
        self._scale = (GAIN * scale)[..., None].to(device)
        self._colours = torch.tensor(COLOURS, device=device)
        noise = torch.randn(n, 3, height, width // 2 + 1, 2, generator=generator)
        self.coefficients = (START * noise).to(device).requires_grad_(True)
        std = torch.tensor(base.std, device=device).view(3, 1, 1)
        mean = torch.tensor(base.mean, device=device).view(3, 1, 1)
        self._darkest, self._brightest = -mean / std, (1 - mean) / std
        self._mean, self._std = mean, std

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return the images within the range of pixels, and the loss of what had to be clipped."""
        spectrum = torch.view_as_complex(self.coefficients * self._scale)
        planes = torch.fft.irfft2(spectrum, s=self._size, norm="ortho")
        free = torch.einsum("nkhw,kc->nchw", planes, self._colours)
        images = free.clamp(self._darkest, self._brightest)
        return images, (free - images).square().mean()

    @torch.no_grad()
    def pixels(self) -> Tensor:
        """Return the images as uint8 on the CPU."""
        return ((self.draw()[0] * self._std + self._mean) * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def invert(
    critics: Sequence[Critic], base: Base, labels: Tensor, config: ExemplarConfig, *, generator: torch.Generator,
    device: torch.device, stage: Stage | None = None,
) -> Tensor:  # fmt: skip
    """Generate images of classes.

    Args:
        critics: Networks on `device`, with one output a class of `base`; they are left as they were.
        base: Size and normalisation of images.
        labels: Class of each image, int64 `(N,)`. Many classes together suit the norm statistics best.
        config: How.
        generator: On the CPU; the same draws give the same images on one device and number of threads.
        device: Where to compute.
        stage: Progress, in steps.

    Returns:
        uint8 `(N, 3, H, W)` on the CPU.

    Raises:
        ConfigError: a critic has no batch norms.
    """
    stage = stage or SilentProgress()
    canvas = Canvas(len(labels), base, generator, device)
    optimizer = torch.optim.Adam([canvas.coefficients], betas=(0.5, 0.9))
    labels = labels.to(device)
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = _rate(step, config)
        images, clipped = canvas.draw()
        seen = _shifted(images, config.crop, generator)
        loss = CLIPPING * clipped + VARIATION * _variation(images)
        for critic in critics:
            # Frozen by what is differentiated, not by a flag on the caller's parameters.
            loss = loss + critic.weight * _critique(critic, seen, labels, config, generator, device)
        (grad,) = torch.autograd.grad(loss, [canvas.coefficients])
        canvas.coefficients.grad = grad
        optimizer.step()
        stage.advance()
    return canvas.pixels()


def _critique(
    critic: Critic, images: Tensor, labels: Tensor, config: ExemplarConfig, generator: torch.Generator,
    device: torch.device,
) -> Tensor:  # fmt: skip
    if critic.cutout:
        images = images.masked_fill(_holes(images, critic.cutout, generator), 0.0)
    images = images.contiguous(memory_format=torch.channels_last)
    with NormLoss(critic.model) as norms:
        with autocast(device, bf16=True):
            logits = critic.model(images)
        return F.cross_entropy(logits.float(), labels) + config.norm * norms.take()


def _rate(step: int, config: ExemplarConfig) -> float:
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    return config.lr * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _variation(images: Tensor) -> Tensor:
    across, down = images[..., 1:] - images[..., :-1], images[:, :, 1:] - images[:, :, :-1]
    return across.square().mean() + down.square().mean()


def _shifted(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `pad` pixels, with the mean colour behind it, and mirror half of them."""
    n, _, height, width = images.shape
    draws = torch.rand(3, n, generator=generator)
    top, left = (draws[:2] * (2 * pad + 1)).long()
    across = torch.arange(width)
    mirrored = torch.where((draws[2] < 0.5)[:, None], across.flip(0), across)
    rows = (top[:, None] + torch.arange(height)).to(images.device)
    columns = (left[:, None] + mirrored).to(images.device)
    padded = F.pad(images, (pad, pad, pad, pad))
    first = torch.arange(n, device=images.device)[:, None, None]
    return padded[first, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _holes(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Mark a square of each image, whose centre falls anywhere in it: `(N, 1, H, W)`."""
    n, _, height, width = images.shape
    inside = []
    for length in (height, width):
        centre = (torch.rand(n, generator=generator) * length).long()
        offset = torch.arange(length) - (centre[:, None] - size // 2)
        inside.append((offset >= 0) & (offset < size))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(images.device)
