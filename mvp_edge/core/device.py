"""Where a network computes, on how many threads and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn

from mvp_edge.core.errors import ConfigError

Network = TypeVar("Network", bound=nn.Module)

Bf16 = Literal["auto", "on", "off"]

_bf16: Bf16 = "auto"

# Of glibc's mallopt(3), and their largest values: freed memory goes back to the system above the first, arrays are
# mapped for themselves above the second.
_MALLOPT = {-1: 2**31 - 1, -3: 2**30}


@dataclass(frozen=True)
class Machine:
    """What a process computes with.

    Attributes:
        device: As `resolve_device` reads it.
        threads: CPU threads; None leaves their number to torch.
        bf16: Whether it trains in bfloat16, as for `use_bf16`.
    """

    device: str = "auto"
    threads: int | None = None
    bf16: Bf16 = "auto"

    def take(self) -> torch.device:
        """Let this process compute with it, and return the device.

        Raises:
            ConfigError: the machine has no such device, or the number of threads is below 1.
        """
        use_threads(self.threads)
        use_bf16(self.bf16)
        return resolve_device(self.device)


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
    """Return the network on `device`, its weights in channels-last memory, which convolutions compute fastest in.

    On the CPU this process keeps the memory that it frees from now on.
    """
    if device.type == "cpu":
        keep_memory()
    return cast(Any, model).to(device, memory_format=torch.channels_last)


def on_host(model: Network) -> Network:
    """Return the network on the CPU, its weights in contiguous memory, as files and graphs store them."""
    return cast(Any, model).to("cpu", memory_format=torch.contiguous_format)


@cache
def keep_memory() -> None:
    """Let this process use the memory that it frees again, instead of giving it back to the system (glibc only).

    Linux clears each page that it hands out. Activations, freed and allocated anew in every layer, had cost `prune`
    with 500 photographs at 128 pixels a tenth of its time (`python -m benchmarks prune-time`).
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            for option, value in _MALLOPT.items():
                ctypes.CDLL(None).mallopt(option, value)


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


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: small products are ten times as slow on several that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def use_bf16(choice: Bf16) -> None:
    """Set whether this process trains in bfloat16: `on`, `off`, or `auto` where the hardware computes in it fast."""
    global _bf16
    _bf16 = choice


def trains_in_bf16(device: torch.device) -> bool:
    """Return whether training on `device` computes in bfloat16: as `use_bf16` says, or by the hardware's own flags.

    On the CPU `auto` wants AMX: with AVX-512 alone products in bfloat16 are no faster, so that networks of few channels
    and what `prune` trains of a photograph network take longer (`python -m benchmarks training-speed`). It is never
    timed: the same seed gives the same result.
    """
    if _bf16 != "auto":
        return _bf16 == "on"
    if device.type == "cuda":
        # `is_bf16_supported` is also true of cards that only emulate it, and reads the current card.
        return torch.cuda.get_device_properties(device).major >= 8
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


def autocast(device: torch.device, *, bf16: bool) -> AbstractContextManager[Any]:
    """Return a bfloat16 autocast context if `bf16` allows it and the process uses it, else one that does nothing."""
    if bf16 and trains_in_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()
