"""Published zoos in the cache: fetched file by file, when a file is needed, and checked.

What is published begins with an index: descriptions of the zoo and all members, size and checksum of every other file.
It is fetched first and makes a directory in the cache, which is a zoo whose weights are missing yet. From then on the
network is needed for nothing but these. A revision is looked up once.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

from mvp_edge.core.atomic import sync_directory, write_atomically
from mvp_edge.core.errors import ZooError
from mvp_edge.core.places import cache_dir
from mvp_edge.core.progress import Stage
from mvp_edge.core.untrusted import (
    MAX_FILE,
    MAX_JSON,
    is_file_name,
    is_file_path,
    read_bytes,
    read_json,
    typed,
    unzipped,
)
from mvp_edge.zoo.remote import INDEX, Address, download

FORMAT = 1
_ADDRESS = ".address"  # where a directory of the cache comes from
_ARRIVING = ".arriving"  # what is being fetched, kept when it breaks off


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a published zoo: its bytes, and their SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a published zoo holds: its `zoo.json`, the `member.json` of each member, and its other files by path."""

    format: int = FORMAT
    zoo: dict[str, Any]
    members: dict[str, dict[str, Any]]
    files: dict[str, Entry]

    def to_bytes(self) -> bytes:
        """Return it as a file; the same index gives the same bytes."""
        return gzip.compress(json.dumps(msgspec.to_builtins(self), sort_keys=True).encode(), 9, mtime=0)

    @staticmethod
    def from_bytes(data: bytes) -> Index:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: it is damaged, of another format, or names files outside the zoo.
        """
        found = typed(read_json(unzipped(data)), Index)
        if found.format != FORMAT:
            raise ValueError(f"its format is {found.format}, but this version reads {FORMAT}")
        wrong = [m for m in found.members if not is_file_name(m)]
        wrong += [f for f, e in found.files.items() if not is_file_path(f) or not 0 <= e.size <= MAX_FILE]
        if wrong:
            raise ValueError(f"it names {wrong[0]!r}")
        return found


def mirror(name: str, *, newest: bool = False) -> Path:
    """Return the directory in the cache of a zoo that is elsewhere; its descriptions are there, its weights may not be.

    Args:
        name: Its address.
        newest: Look for a newer one, though one is there; files that did not change are not fetched again.

    Raises:
        ConfigError: the address is not one.
        ZooError: there is no zoo, it cannot be fetched, or the cache cannot be written.
    """
    address = Address.parse(name)
    label = re.sub(r"[^A-Za-z0-9.-]", "-", address.place.rsplit("/", 1)[-1]).lstrip(".-")
    place = _zoos() / f"{label or 'zoo'}-{hashlib.sha256(str(address).encode()).hexdigest()[:12]}"
    if newest or not place.is_dir():
        with _writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_name(f".{place.name}.lock")):
                if newest or not place.is_dir():  # not yet, while this waited
                    _begin(address, place)
    return place


def is_mirror(path: Path) -> bool:
    """Return whether a directory is one of the cache, which holds what is published elsewhere."""
    return (path / _ADDRESS).is_file() and path.parent.resolve() == _zoos().resolve()


def origin(path: Path) -> str:
    """Return the address that a directory of the cache came from, with its revision."""
    return (path / _ADDRESS).read_text(encoding="utf-8").strip()


def require_file(root: Path, file: str) -> Path:
    """Return a file of a zoo, fetched and checked if the zoo is elsewhere and the file is not there yet.

    Args:
        root: Directory of the zoo.
        file: Path in it.

    Raises:
        ZooError: it cannot be fetched, is not what its checksum says, or the cache cannot be written.
    """
    path = root / file
    if path.exists() or not is_mirror(root):
        return path
    entry = _index(root).files.get(file)
    if entry is None:
        return path  # whoever reads it says what is missing
    with _writing(root):
        locks = root / ".locks"
        locks.mkdir(exist_ok=True)
        with FileLock(locks / f"{hashlib.sha256(file.encode()).hexdigest()[:16]}.lock"):
            if not path.exists():  # not yet, while this waited
                _fetch(Address.parse(origin(root)), file, entry, root)
    return path


def fetch_all(root: Path, stage: Stage) -> None:
    """Fetch all files of a zoo in the cache that are not there yet.

    Raises:
        ZooError: see `require_file`.
    """
    for file in _index(root).files:
        require_file(root, file)
        stage.advance()


def file_count(root: Path) -> int:
    """Return how many files besides descriptions a zoo in the cache has, there or not."""
    return len(_index(root).files)


def _zoos() -> Path:
    return cache_dir().absolute() / "zoos"


def _index(root: Path) -> Index:
    try:
        return Index.from_bytes(read_bytes(root / INDEX, MAX_JSON))
    except (OSError, ValueError) as e:
        raise ZooError(f"{root / INDEX} is damaged ({e}); remove {root} and run the same command again") from e


def _begin(address: Address, place: Path) -> None:
    """Fetch the index and put the directory that it makes in its place, with unchanged files of an older one.

    The lock of the place is held, so that other temporary directories of it are those of killed processes.
    """
    for left in place.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(place.name)}\.[0-9a-f]{{8}}(\.old)?", left.name):
            shutil.rmtree(left, ignore_errors=True)
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    old = partial.with_name(f"{partial.name}.old")
    partial.mkdir()
    try:
        path, address = download(address, INDEX, partial / _ARRIVING, MAX_JSON)
        try:
            data = read_bytes(path, MAX_JSON)
            index = Index.from_bytes(data)
        except ValueError as e:
            raise ZooError(f"{address} has a damaged {INDEX} ({e}); its owner can publish it again") from e
        shutil.rmtree(partial / _ARRIVING)
        (partial / "zoo.json").write_text(json.dumps(index.zoo), encoding="utf-8")
        for member, value in index.members.items():
            (partial / "members" / member).mkdir(parents=True)
            (partial / "members" / member / "member.json").write_text(json.dumps(value), encoding="utf-8")
        (partial / _ADDRESS).write_text(str(address), encoding="utf-8")
        write_atomically(partial / INDEX, data)
        if place.is_dir():
            before = _index(place).files
            for file in (f for f, e in index.files.items() if before.get(f) == e and (place / f).is_file()):
                (partial / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place / file, partial / file)
            place.rename(old)
        partial.rename(place)
        sync_directory(place.parent)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _fetch(address: Address, file: str, entry: Entry, root: Path) -> None:
    """Fetch a file; under its own name it is whole and checked."""
    arrived, _ = download(address, file, root / _ARRIVING, entry.size)
    with arrived.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if arrived.stat().st_size != entry.size or found != entry.sha256:
        arrived.unlink()
        raise ZooError(
            f"{address}/{file} does not match its checksum, so it was not kept; it may have changed since the zoo was "
            f"first read: try mvp-edge zoo fetch {address.newest}"
        )
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    arrived.replace(root / file)
    sync_directory((root / file).parent)


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise ZooError(
            f"the cache {place} cannot be written ({e.strerror or e}); make room, or name another place with "
            "MVP_EDGE_CACHE"
        ) from e
