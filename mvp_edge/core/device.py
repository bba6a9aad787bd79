"""Where a network computes, on how many threads and in which precision."""

from __future__ import annotations

import contextlib
import re
import time
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import torch
from torch import nn

from mvp_edge.core.errors import ConfigError

Network = TypeVar("Network", bound=nn.Module)

WORTH_BF16 = 1.2  # times as fast as float32, below which bfloat16 is not worth its rounding


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a device that exists.

    Raises:
        ConfigError: the name is unknown, or the machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    match = re.fullmatch(r"(cpu|mps|cuda)(?::(\d+))?", name)
    if match is None or (match[2] is not None and match[1] != "cuda"):
        raise ConfigError(f"device {name!r} is unknown; use auto, cpu, cuda, cuda:N or mps")
    if match[1] == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device mps is not available on this machine; use --device auto or cpu")
    if match[1] == "cuda" and int(match[2] or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} CUDA devices are" if torch.cuda.is_available() else "no CUDA device is"
        raise ConfigError(f"device {name} is not available: {found} present; use --device auto or cpu")
    return torch.device(name)


def on_device(model: Network, device: torch.device) -> Network:
    """Return the network on `device`, its weights in channels-last memory, which convolutions compute fastest in."""
    return model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def on_host(model: Network) -> Network:
    """Return the network on the CPU, its weights in contiguous memory, as files and graphs store them."""
    return model.to("cpu", memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def use_threads(count: int | None) -> None:
    """Set the CPU threads of this process: torch, decoding of images, evaluation with ONNX Runtime.

    Args:
        count: At least 1; None keeps torch's own number, which `OMP_NUM_THREADS` sets.

    Raises:
        ConfigError: the number is below 1.
    """
    if count is None:
        return
    if count < 1:
        raise ConfigError(f"threads is {count}; it must be at least 1")
    torch.set_num_threads(count)


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether matrix products in bfloat16 are faster than in float32 on this device."""
    if device.type == "cuda":
        # `is_bf16_supported` is also true of cards that only emulate it, and reads the current card.
        return torch.cuda.get_device_properties(device).major >= 8
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")) and _bf16_gain() >= WORTH_BF16


@cache
def _bf16_gain() -> float:
    """Measure how many times as fast as float32 a matrix product is in bfloat16; a fifth of a second, once a process.

    The processor's flags do not show it: of two machines with AVX-512 BF16, one took half the time of float32, the
    other one and a half times.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads on a busy machine wait for each other
    try:
        gain = _product_seconds(torch.float32) / _product_seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(threads)
    return gain


def _product_seconds(dtype: torch.dtype) -> float:
    factor = torch.ones(512, 512, dtype=dtype)
    seconds = []
    for _ in range(8):  # the first ones compile a kernel, others may be interrupted
        start = time.perf_counter()
        _ = factor @ factor
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def autocast(device: torch.device, *, bf16: bool) -> AbstractContextManager[Any]:
    """Return a bfloat16 autocast context if it is requested and faster, else one that does nothing."""
    if bf16 and has_fast_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
