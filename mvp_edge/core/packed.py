"""Tensors from files, without torch: safetensors, gzipped or not, matrices packed to int8 or in half precision."""

from __future__ import annotations

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from mvp_edge.core.untrusted import safetensors_header, unzipped

GZIP = b"\x1f\x8b"
SCALE = ":scale"  # the end of the name of what packed levels are multiplied by


def read_packed(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors of a file, floating-point ones in single precision, and its metadata.

    Raises:
        ValueError: the bytes are damaged.
    """
    try:
        plain = unzipped(data) if data.startswith(GZIP) else data
        header = safetensors_header(plain)
        stored = load(plain)
    except (SafetensorError, KeyError, OverflowError) as e:
        raise ValueError(str(e) or type(e).__name__) from e
    tensors = {}
    for name, value in stored.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in stored:
            continue
        scale = stored.get(name + SCALE)
        if scale is not None:
            value = value.astype(np.float32) * along(scale, value)
        tensors[name] = value.astype(np.float32) if value.dtype == np.float16 else value
    return tensors, header.get("__metadata__", {})


def along(scale: np.ndarray, tensor: np.ndarray) -> np.ndarray:
    """Return scales `(out,)` in the shape in which they multiply a tensor: along its first dimension above one."""
    lead = next((d for d, n in enumerate(tensor.shape) if n > 1), 0)
    return scale.reshape(*[1] * lead, -1, *[1] * (tensor.ndim - lead - 1))
