"""Batches: which images, and their augmentation, normalisation and scaling as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_FORWARD_BATCH = 250
# 41 images of 224x224. A process that passes 256 of them through MobileNetV2 peaks at 1.4 GB instead of 3.8 GB for 250
# at once, and takes 6.7 CPU seconds instead of 9.4 (one thread, one run each).
_FORWARD_PIXELS = 1 << 21


def batches(n: int, batch_size: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield `steps` full batches of indices below `n`, cut from an endless run of reshuffled epochs.

    No image is dropped at the end of an epoch: the batch continues with the next one. After any number of batches all
    images have been drawn equally often, plus or minus one, also if `n` is smaller than `batch_size`.

    Args:
        n: Number of images, at least 1.
        batch_size: Indices in every batch, at least 1.
        steps: Number of batches, at least 0.
        rng: Source of the shuffles.

    Yields:
        Index arrays `(batch_size,)`, int64.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [len(b) for b in batches(5, 4, 3, np.random.default_rng(0))]
        [4, 4, 4]
    """
    if n < 1 or batch_size < 1 or steps < 0:
        raise ValueError(f"need n >= 1, batch_size >= 1 and steps >= 0, got {n}, {batch_size} and {steps}")
    return _cut(n, batch_size, steps, rng)


# Images of the largest class over those of the smallest. Drawing classes equally often gained balanced accuracy
# on four of five lists at 3, and in the mean at 2, 10, 20 and 40, though one list lost up to 8 points
# (docs/data.md). Images held out check the training.
IMBALANCED = 3.0


def evened(labels: Tensor) -> np.ndarray:
    """Return the positions to draw batches from, so that all classes are drawn equally often.

    Args:
        labels: int64 `(N,)`.

    Returns:
        All positions in order; if the largest class has at least `IMBALANCED` times the images of the smallest, those
        of smaller classes are repeated until each class has as many as the largest.
    """
    counts = torch.bincount(labels)
    counts = counts[counts > 0]
    if len(labels) == 0 or int(counts.max()) < IMBALANCED * int(counts.min()):
        return np.arange(len(labels))
    of_class = (np.flatnonzero(labels.numpy() == label) for label in labels.unique().tolist())
    return np.sort(np.concatenate([np.resize(rows, int(counts.max())) for rows in of_class]))


def forward_batch(images: Tensor) -> int:
    """Return how many of the images `(N, 3, H, W)` fit in memory for one forward pass."""
    return max(1, min(_FORWARD_BATCH, _FORWARD_PIXELS // (images.shape[2] * images.shape[3])))


def _cut(n: int, batch_size: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    queue = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(n)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


_GREY = (0.5, 0.5, 0.5)
_SHIFTED = 512  # images at once: meanwhile they take four times their memory


def augment(
    images: Tensor,
    generator: torch.Generator,
    pad: int,
    cutout: int,
    flip: bool = True,
    mean: Sequence[float] = _GREY,
) -> Tensor:
    """Shift, mirror and cut holes into each image of a batch independently.

    `generator` draws five numbers per image on the CPU, whatever the settings, so that the result is the same on every
    device, and turning one augmentation off does not change the others.

    Args:
        images: uint8 `(N, 3, H, W)` on any device.
        generator: A CPU generator.
        pad: Largest shift in pixels, in each direction; the new border has the mean colour. 0 = off.
        cutout: Side in pixels of a square hole with its centre anywhere in the image. 0 = off.
        flip: Mirror half of the images.
        mean: Colour of border and hole in [0, 1]; after normalisation it is about zero.

    Returns:
        uint8 `(N, 3, H, W)`, contiguous; `images` itself if nothing changes.

    Raises:
        ValueError: If the images are not a uint8 batch of RGB images, or `pad` or `cutout` is negative.

    References:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.
    """
    _check(images)
    if pad < 0 or cutout < 0:
        raise ValueError(f"pad and cutout must be at least 0, got {pad} and {cutout}")
    n, device = len(images), images.device
    height, width = images.shape[2:]
    # float64: the product with a range stays below its end, which float32 does not promise.
    draws = torch.rand(5, n, generator=generator, dtype=torch.float64)
    if n == 0 or not (pad or cutout or flip):
        return images
    colour = torch.tensor([round(255 * m) for m in mean], dtype=torch.uint8, device=device)
    if pad or flip:
        top = (draws[0] * (2 * pad + 1)).long().to(device)
        left = (draws[1] * (2 * pad + 1)).long().to(device)
        mirrored = (draws[2] < 0.5).to(device) if flip else None
        images = _shift(images, top, left, mirrored, pad, colour)
    if cutout:
        rows = _inside((draws[3] * height).long().to(device), height, cutout)
        columns = _inside((draws[4] * width).long().to(device), width, cutout)
        hole = (rows[:, :, None] & columns[:, None, :])[:, None]
        images = torch.where(hole, colour[:, None, None], images)
    return images


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return `(images / 255 - mean) / std` in channels-last memory.

    Args:
        images: uint8 `(N, 3, H, W)` on any device.
        mean: Per channel, in [0, 1].
        std: Per channel, above 0.

    Returns:
        `(N, 3, H, W)`, float32, contiguous in `torch.channels_last`.

    Raises:
        ValueError: If the images are not a uint8 batch of RGB images.
    """
    _check(images)
    n, channels, height, width = images.shape
    # Rows of width * 3 values against a scale of that length run 7 times faster on a CPU than broadcasting 3 values.
    scale = torch.tensor([1 / (255 * s) for s in std]).repeat(width).to(images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).repeat(width).to(images.device)
    rows = images.permute(0, 2, 3, 1).reshape(n * height, width * channels)
    values = rows.to(torch.float32).mul_(scale).add_(shift)
    return values.view(n, height, width, channels).permute(0, 3, 1, 2)


def scaled_down(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return normalised images `(N, C, *size)` of larger ones, averaged over the pixels that fall together.

    Scaling is linear, so that it may follow the normalisation.
    """
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected uint8 images (N, 3, H, W), got {images.dtype} {tuple(images.shape)}")


def _shift(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor | None, pad: int, colour: Tensor) -> Tensor:
    """Cut a window at (top, left) out of each padded image, or out of its mirror image."""
    n, channels, height, width = images.shape
    if n > _SHIFTED:
        parts = (slice(start, start + _SHIFTED) for start in range(0, n, _SHIFTED))
        some = ((images[i], top[i], left[i], None if mirrored is None else mirrored[i]) for i in parts)
        return torch.cat([_shift(*part, pad, colour) for part in some])
    high, wide = height + 2 * pad, width + 2 * pad
    source = colour[:, None, None].expand(n, channels, high, wide).contiguous()
    source[:, :, pad : pad + height, pad : pad + width] = images
    first = torch.arange(n, device=images.device)
    if mirrored is not None:
        source = torch.cat([source, source.flip(-1)])
        first = first + n * mirrored
    # Every run of `width` pixels in memory is a row of this overlapping view, so that crop and flip of the batch are
    # one copy of n * 3 * height short runs: 0.1 ms for 128 images of 32 x 32, where a gather per pixel takes 0.7 ms.
    runs = source.view(-1).as_strided((source.numel() - width + 1, width), (1, 1))
    corner = first * (channels * high * wide) + top * wide + left
    planes = torch.arange(channels, device=images.device) * (high * wide)
    rows = torch.arange(height, device=images.device) * wide
    starts = corner[:, None, None] + planes[:, None] + rows
    return runs.index_select(0, starts.view(-1)).view(n, channels, height, width)


def _inside(centre: Tensor, length: int, size: int) -> Tensor:
    """Mark the positions `(N, length)` of a run of `size` around each centre; what falls outside is cut off."""
    offset = torch.arange(length, device=centre.device) - (centre[:, None] - size // 2)
    return (offset >= 0) & (offset < size)
