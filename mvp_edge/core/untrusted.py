"""Reading untrusted files: bytes, gzip, JSON and the headers of safetensors, each with a limit."""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
MAX_FILE = 2 << 30  # bytes of a file
MAX_SIDE = 4096  # pixels of an image
MAX_JSON = 64 << 20
MAX_HEADER = 4 << 20  # of safetensors: a network of 1,000 layers has a tenth of that
MAX_RATIO = 64  # of gzip: weights in eight bits become a third shorter, graphs a quarter of their size
SLACK = 16 << 20  # bytes that any file may unpack to, whatever its own size
_PIECE = 8 << 20  # bytes that are unpacked at a time, as zlib moves what it has when its buffer grows
_GZIP = 31  # zlib's number for gzip
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]{0,199}")


def read_bytes(path: Path, limit: int = MAX_FILE) -> bytes:
    """Return the bytes of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger than `limit`, in bytes.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return data


def unzipped(data: bytes) -> bytes:
    """Return what gzipped bytes hold; no more is unpacked than a file of that size may hold.

    Raises:
        ValueError: they are damaged or hold more.
    """
    limit, parts = MAX_RATIO * len(data) + SLACK, list[bytes]()
    try:
        while data:  # gzip allows several streams one after the other
            stream = zlib.decompressobj(_GZIP)
            while not stream.eof:
                parts.append(stream.decompress(data, _PIECE))
                data, limit = stream.unconsumed_tail, limit - len(parts[-1])
                if limit < 0:
                    raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size")
                if not parts[-1] and not stream.eof:
                    raise ValueError("it ends too early")
            data = stream.unused_data
    except zlib.error as e:
        raise ValueError(str(e)) from e
    return b"".join(parts)


def safetensors_header(data: bytes) -> dict[str, Any]:
    """Return the header of safetensors bytes: the description of each tensor by its name, and `__metadata__`.

    Raises:
        ValueError: there is none, or it is too long.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length or length > MAX_HEADER:
        raise ValueError(f"its header is damaged, or longer than {MAX_HEADER:,} bytes")
    header = read_json(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header


def read_json(data: bytes) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: it is damaged, too large or too deep.
    """
    if len(data) > MAX_JSON:
        raise ValueError(f"it is larger than {MAX_JSON:,} bytes")
    try:
        return json.loads(data)
    except RecursionError as e:
        raise ValueError("its values are nested too deeply") from e


def typed(value: Any, kind: type[T]) -> T:
    """Return a JSON value as a data class or another type.

    Raises:
        ValueError: it is of another type, or a part of it is.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as e:
        raise ValueError(str(e)) from e


def is_file_name(name: object) -> bool:
    """Return whether a name is safe for a file or folder: letters, digits and a few signs, no leading dot."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_file_path(path: object) -> bool:
    """Return whether a path, its parts joined by `/`, stays inside the directory that it is relative to."""
    return isinstance(path, str) and all(map(is_file_name, path.split("/")))


def check_printable(names: Iterable[object]) -> None:
    """Refuse names that a terminal or a text file would take for something else.

    Raises:
        ValueError: a name is empty, not text, or has a control character or half of a character.
    """
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{name!r} is not a name")
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            raise ValueError(f"{name!r} has a control character")
