"""Random streams, each named by its seed and purpose."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def rng(seed: int, purpose: str) -> np.random.Generator:
    """Return the random stream called `purpose`; streams of other purposes and seeds are independent of it."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def torch_rng(seed: int, purpose: str) -> torch.Generator:
    """Return the named stream as a torch generator on the CPU, so that every device sees the same draws."""
    return torch.Generator().manual_seed(int(rng(seed, purpose).integers(2**62)))
