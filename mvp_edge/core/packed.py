"""Tensors from files, without torch: safetensors, gzipped or not, matrices packed to int8 or in half precision.

A matrix in eight bits is levels, or numbers of the vectors of a codebook, with a scale for each output channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from mvp_edge.core.untrusted import read_json, safetensors_header, unzipped

GZIP = b"\x1f\x8b"
SCALE = ":scale"  # the end of the name of what packed levels are multiplied by
BOOK = ":book"  # and of the vectors that codes stand for


@dataclass(frozen=True, eq=False)
class Packed:
    """A tensor in eight bits.

    Attributes:
        levels: int8, of the tensor's shape; or uint8 codes `(out, G)` of a matrix, each of which stands for a vector of
            the codebook.
        scale: `(out,)`: what levels are multiplied by.
        book: Codebook `(V, D)`, if there is one: D neighbouring columns have one code; the last may have too many.
        shape: Of the tensor.
    """

    levels: np.ndarray
    scale: np.ndarray
    shape: tuple[int, ...]
    book: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """The tensor in single precision."""
        if self.book is None:
            return self.levels.astype(np.float32) * along(self.scale, self.levels)
        rows = self.book.astype(np.float32)[self.levels].reshape(len(self.levels), -1)
        columns = int(np.prod(self.shape[1:]))
        return (rows[:, :columns] * self.scale.astype(np.float32)[:, None]).reshape(self.shape)

    def rows(self, index: list[int]) -> Packed:
        """Return some output channels of a matrix."""
        return Packed(self.levels[index], self.scale[index], (len(index), *self.shape[1:]), self.book)


Stored = np.ndarray | Packed


def in_full(tensors: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """Return tensors as they are computed with, floating-point ones in single precision."""
    found = {name: value.values if isinstance(value, Packed) else value for name, value in tensors.items()}
    return {name: v.astype(np.float32) if v.dtype == np.float16 else v for name, v in found.items()}


def read_stored(data: bytes) -> tuple[dict[str, Stored], dict[str, str]]:
    """Return the tensors of a file as they are stored, and its metadata.

    Raises:
        ValueError: the bytes are damaged.
    """
    try:
        plain = unzipped(data) if data.startswith(GZIP) else data
        header = safetensors_header(plain)
        stored = load(plain)
        metadata = header.get("__metadata__", {})
        shapes = {name: tuple(read_json(metadata[name].encode())) for name in stored if name + BOOK in stored}
    except (AttributeError, KeyError, OverflowError, SafetensorError, TypeError) as e:
        raise ValueError(str(e) or type(e).__name__) from e
    tensors: dict[str, Stored] = {}
    for name, value in stored.items():
        if any(name.endswith(end) and name.removesuffix(end) in stored for end in (SCALE, BOOK)):
            continue
        scale, book = stored.get(name + SCALE), stored.get(name + BOOK)
        if scale is None:
            tensors[name] = value
        elif book is None:
            if np.broadcast_shapes(along(scale, value).shape, value.shape) != value.shape:
                raise ValueError(f"the scales of {name} do not fit its levels")
            tensors[name] = Packed(value, scale, value.shape)
        else:
            tensors[name] = _coded(name, Packed(value, scale, shapes[name], book), book)
    return tensors, metadata


def _coded(name: str, form: Packed, book: np.ndarray) -> Packed:
    """Return what was read, if codes, codebook, scales and shape fit together; ValueError otherwise."""
    codes, shape = form.levels, form.shape
    whole = all(isinstance(n, int) and n > 0 for n in shape) and len(shape) > 1
    fits = whole and codes.dtype == np.uint8 and codes.ndim == book.ndim == 2 and codes.size > 0
    fits = fits and form.scale.shape == shape[:1] == codes.shape[:1] and int(codes.max()) < len(book)
    if not (fits and 0 <= codes.shape[1] * book.shape[1] - int(np.prod(shape[1:])) < book.shape[1]):
        raise ValueError(f"codes, codebook, scales and shape of {name} do not fit together")
    return form


def along(scale: np.ndarray, tensor: np.ndarray) -> np.ndarray:
    """Return scales `(out,)` in the shape in which they multiply a tensor: along its first dimension above one."""
    lead = next((d for d, n in enumerate(tensor.shape) if n > 1), 0)
    return scale.reshape(*[1] * lead, -1, *[1] * (tensor.ndim - lead - 1))
