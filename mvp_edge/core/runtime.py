"""The machine: device, precision, named random streams, progress, and a snapshot for the record."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from mvp_edge.core.errors import ConfigError

Network = TypeVar("Network", bound=nn.Module)

WORTH_BF16 = 1.2  # times as fast as float32, below which bfloat16 is not worth its rounding


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a device that exists.

    Raises:
        ConfigError: the name is none of these, or the machine has no such device.
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
        raise ConfigError(f"device {name} was asked for, but {found} available; use --device auto or cpu")
    return torch.device(name)


def on_device(model: Network, device: torch.device) -> Network:
    """Move a network to where it computes, colours last in its weights, as convolutions want them; return it."""
    return model.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def on_host(model: Network) -> Network:
    """Move a network to the CPU, its weights in the order in which files and graphs hold them; return it."""
    return model.to("cpu", memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def use_threads(count: int | None) -> None:
    """Let this process compute on `count` CPU threads: torch, decoding of images, evaluation with ONNX Runtime.

    Args:
        count: At least 1; None leaves torch its own choice, which `OMP_NUM_THREADS` sets.

    Raises:
        ConfigError: the number is below 1.
    """
    if count is None:
        return
    if count < 1:
        raise ConfigError(f"threads is {count}; it must be at least 1")
    torch.set_num_threads(count)


def has_fast_bf16(device: torch.device) -> bool:
    """Say whether matrix products in bfloat16 are faster than in float32 on this device."""
    if device.type == "cuda":
        # `is_bf16_supported` also says yes to cards that only emulate it, and looks at the current one.
        return torch.cuda.get_device_properties(device).major >= 8
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")) and _bf16_gain() >= WORTH_BF16


@cache
def _bf16_gain() -> float:
    """Measure how many times as fast as float32 a matrix product is in bfloat16; a fifth of a second, once a process.

    The processor's flags do not tell: of two machines with AVX-512 BF16 one took half the time, the other half as long
    again.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on a busy machine time each other
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
    """Return a bfloat16 autocast context where it is asked for and pays, else one that does nothing."""
    if bf16 and has_fast_bf16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def rng(seed: int, purpose: str) -> np.random.Generator:
    """Return the random stream called `purpose`; streams of other purposes and seeds are independent of it."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def torch_rng(seed: int, purpose: str) -> torch.Generator:
    """Return the named stream as a torch generator on the CPU, so that every device sees the same draws."""
    return torch.Generator().manual_seed(int(rng(seed, purpose).integers(2**62)))


class Stage(Protocol):
    """One stage of a running job."""

    def advance(self, n: int = 1) -> None:
        """Say that `n` more steps are done."""
        ...

    def note(self, text: str) -> None:
        """Show a short text beside the stage."""
        ...


class Progress(Protocol):
    """What a job tells about itself; the command line draws it."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """Open the stage called `name` with `total` steps, if their number is known."""
        ...


class SilentProgress:
    """Progress that nobody looks at."""

    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Open a stage that shows nothing."""
        yield self


class Stopwatch:
    """Wall-clock seconds by stage name.

    Args:
        began: When the job began, by `time.perf_counter`; until now it was in the stage `start`. None: it begins now.
    """

    def __init__(self, began: float | None = None) -> None:
        now = time.perf_counter()
        self.start = now if began is None else began
        self.seconds: dict[str, float] = {} if began is None else {"start": now - began}

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add the duration of the block to stage `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def part(self, name: str, of: str, seconds: float) -> None:
        """Give seconds that were counted as stage `of` a stage of their own."""
        self.seconds[of] -= seconds
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @property
    def total(self) -> float:
        """Seconds since the job began."""
        return time.perf_counter() - self.start


def own_version() -> str:
    """Return the version of this tool as installed; "0" in a source tree that is not."""
    try:
        return version("mvp-edge")
    except PackageNotFoundError:
        return "0"


def environment(device: torch.device) -> dict[str, Any]:
    """Describe what a result was made with: versions, processor, threads, and the GPU if it was trained on one.

    Latencies are those of the processor, whatever the device.
    """
    packages = {}
    for name in ("mvp-edge", "torch", "timm", "torch-pruning", "onnx", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": str(device),
        **({"accelerator": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
        "bf16": has_fast_bf16(device),
        "packages": packages,
    }


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
