"""Tensors on disk: safetensors, never pickles, with matrices in half precision or packed to int8.

Packed: one symmetric scale per output channel, or per token of a table of positions: a sixteenth or a thirty-second
of its standard deviation; gzip then takes away what a bell-shaped distribution leaves unused of eight bits. Depthwise
filters stay in half precision, vectors (norms, biases, a class token) as precise as they are.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mvp_edge.config import Packing
from mvp_edge.core.untrusted import safetensors_header, unzipped

COUNTER = "num_batches_tracked"  # how many batches a batch norm has seen: nothing is computed with it

_GZIP = b"\x1f\x8b"
_SCALE = ":scale"
_LEVELS = 127
_LOWEST = 8  # a channel that was packed before has hardly ever no level up to this
# To a standard deviation. For the networks of the CIFAR-100 zoos twice as many cost 17 % more bytes and gain nothing,
# half as many cost accuracy. EfficientNet-Lite0 at 128 px loses 3.1 points of 100-way accuracy at 16, and 0.5 at 32.
_STEPS: dict[Packing, int] = {"int8": 16, "int8-fine": 32}


def serialise(tensors: Mapping[str, Tensor], packing: Packing, metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors as bytes; the same tensors give the same bytes.

    Args:
        tensors: By name, of any type.
        packing: How matrices are stored.
        metadata: Text to store beside them.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if not value.is_floating_point() or sum(n > 1 for n in value.shape) < 2:
            stored[name] = value
        elif packing == "float16" or (value.ndim == 4 and value.shape[1] == 1):  # few weights to a depthwise filter
            stored[name] = value.half()
        else:
            stored[name], stored[name + _SCALE] = _quantise(value.float(), _STEPS[packing])
    return save(stored, metadata)


def compress(data: bytes) -> bytes:
    """Return gzipped bytes, which `deserialise` reads as well."""
    return gzip.compress(data, 9, mtime=0)


def deserialise(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `serialise` wrote, gzipped or not, or any safetensors bytes.

    Returns:
        The tensors, floating-point ones in single precision, and the metadata.

    Raises:
        ValueError: the bytes are damaged.
    """
    try:
        plain = unzipped(data) if data.startswith(_GZIP) else data
        header = safetensors_header(plain)
        stored = load(plain)
        tensors = _unpacked(stored)
    except (SafetensorError, KeyError, OverflowError, RuntimeError, TypeError) as e:
        raise ValueError((str(e) or type(e).__name__).splitlines()[0]) from e
    return tensors, header.get("__metadata__", {})


def _unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as they are computed with; RuntimeError if a scale does not fit its levels."""
    tensors = {}
    for name, value in stored.items():
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in stored:
            continue
        scale = stored.get(name + _SCALE)
        if scale is not None:
            value = value.float() * _along(scale, value)
        tensors[name] = value.float() if value.is_floating_point() else value
    return tensors


def content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the identity of weights as hexadecimal digits: a checksum of names, types, shapes and values.

    It is that of the numbers, not of a file: how they are stored and compressed does not matter.
    """
    digest = hashlib.sha256()
    for name in sorted(n for n in tensors if not n.endswith(COUNTER)):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load all tensors of a network, in place; only the counters of batch norms may be missing.

    Raises:
        ValueError: others are missing, unknown to the network or of another shape. The network then holds a mixture.
    """
    try:
        missing, unknown = model.load_state_dict(tensors, strict=False)
    except RuntimeError as e:  # shapes differ
        raise ValueError(str(e).splitlines()[-1].strip()) from e
    missing = [name for name in missing if not name.endswith(COUNTER)]
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not part of the network"
        raise ValueError(f"{len(missing)} tensors are missing and {len(unknown)} unknown: {what}")


def _quantise(weight: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return int8 levels and scales `(out,)` of a weight `(out, ...)` or `(1, ..., out, ...)`."""
    channels = weight.flatten(_lead(weight) + 1)
    # Uniform steps and an entropy coder are as good as any codebook; the largest weight must still have a level.
    step = torch.maximum(channels.std(-1, correction=0) / steps, channels.abs().amax(-1) / _LEVELS)
    scale = _steps_before(channels, step).flatten().clamp(min=1e-12)
    levels = (weight / _along(scale, weight)).round().clamp(-_LEVELS, _LEVELS)
    return levels.to(torch.int8), scale


def _steps_before(channels: Tensor, step: Tensor) -> Tensor:
    """Return the steps of channels `(..., n)` that come out of a file already, `step` `(...)` for all others.

    What was packed once is so packed again without loss: all weights are multiples of the smallest, or of a fraction of
    it where the lowest levels do not occur.
    """
    rows, steps = channels.reshape(-1, channels.shape[-1]), step.flatten().clone()
    size = rows.abs()
    least = size.where(size > 0, torch.inf).amin(-1)
    pending = torch.arange(len(rows))
    for level in range(1, _LOWEST + 1):
        finer = least[pending, None] / level
        levels = (rows[pending] / finer).round()
        same = torch.isclose(levels * finer, rows[pending], rtol=1e-6, atol=0) & (levels.abs() <= _LEVELS)
        done = same.all(-1)
        steps[pending[done]] = finer[done, 0]
        pending = pending[~done]
    return steps.view_as(step)


def _lead(tensor: Tensor) -> int:
    """Return the first dimension that is longer than one."""
    return next((d for d, n in enumerate(tensor.shape) if n > 1), 0)


def _along(scale: Tensor, tensor: Tensor) -> Tensor:
    """Return scales `(out,)` in the shape in which they multiply a tensor."""
    lead = _lead(tensor)
    return scale.view(*[1] * lead, -1, *[1] * (tensor.ndim - lead - 1))
