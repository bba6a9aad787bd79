"""What a result was made with: versions, processor, threads, accelerator."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def own_version() -> str:
    """Return the version of this tool as installed; "0" in a source tree that is not."""
    try:
        return version("mvp-edge")
    except PackageNotFoundError:
        return "0"


def host() -> dict[str, Any]:
    """Describe what a result was made with where nothing was trained: versions and processor."""
    packages = {}
    for name in ("mvp-edge", "torch", "timm", "torch-pruning", "onnx", "onnxruntime"):
        with contextlib.suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": packages,
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Describe what a result was made with: as `host`, and threads, precision and the GPU of its training.

    Latencies are those of the processor, whatever the device.
    """
    import torch

    from mvp_edge.core.device import trains_in_bf16

    about = host()
    packages = about.pop("packages")
    return {
        **about,
        "torch_threads": torch.get_num_threads(),
        "device": str(device),
        **({"accelerator": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
        "bf16": trains_in_bf16(device),
        "packages": packages,
    }


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
