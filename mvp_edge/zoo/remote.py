"""Zoos that are elsewhere: fetched into the cache file by file, when a file is needed, and checked.

    hf://ORG/NAME[@REVISION]             a repository of the Hugging Face Hub
    s3://BUCKET/PATH, gs://BUCKET/PATH   an object store
    https://HOST/PATH                    any web server

What is published begins with an index: descriptions of the zoo and all members, size and checksum of every other file.
It is fetched first and makes a directory in the cache, which is a zoo whose weights are missing yet. From then on the
network is needed for nothing but these. A revision is looked up once.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from filelock import FileLock

from mvp_edge.core.atomic import sync_directory, write_atomically
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.network import errors_only, require_network
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

INDEX = "index.json.gz"
FORMAT = 1
_ADDRESS = ".address"  # where a directory of the cache comes from
_ARRIVING = ".arriving"  # what is being fetched, kept when it breaks off
_BLOCK = 4 << 20  # bytes
_HUB = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w./-]*))?/?")
_STORE = re.compile(r"(s3|gs|https|http)://([^\s?#@]+)")
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/.*)?")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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


@dataclass(frozen=True)
class Address:
    """Where a zoo or model is published.

    Attributes:
        scheme: `hf`, `s3`, `gs`, `https`, or `http` for this computer.
        place: `ORG/NAME`, or host or bucket and path.
        revision: Branch, tag or commit of a repository; empty for its newest one.
    """

    scheme: str
    place: str
    revision: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}" + (f"@{self.revision}" if self.revision else "")

    @staticmethod
    def parse(text: str) -> Address:
        """Read an address.

        Raises:
            ConfigError: it is none that can be read.
        """
        if hub := _HUB.fullmatch(text):
            return Address("hf", hub[1], hub[2] or "")
        store = _STORE.fullmatch(text)
        if store is None or (store[1] == "http" and not _LOCAL.fullmatch(store[2])):
            shown = text.split("://")[0]  # the rest may hold a password
            raise ConfigError(
                f"an address that starts with {shown}:// must be one of hf://ORG/NAME[@REVISION], s3://BUCKET/PATH, "
                "gs://BUCKET/PATH and https://HOST/PATH, without passwords or a query"
            )
        return Address(store[1], store[2].rstrip("/"))


def is_address(name: str) -> bool:
    """Return whether a zoo is named by an address, not by its directory or as a bundled one."""
    return "://" in name


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


def destination(target: str, *, private: bool) -> Address | Path:
    """Return where something is published: an address that can be written, or a directory.

    Raises:
        ConfigError: it is an address that cannot be written, or only repositories of the Hub can be private.
    """
    address = Address.parse(target) if is_address(target) else None
    if private and (address is None or address.scheme != "hf"):
        raise ConfigError(f"--private is for repositories of the Hub (hf://ORG/NAME); leave it out for {target}")
    if address is None:
        return Path(target)
    if address.scheme in ("http", "https"):
        raise ConfigError(
            f"{target} cannot be written over HTTP; publish to a directory, and put that on the web server"
        )
    return address


def upload(where: Address | Path, files: Mapping[str, bytes | Path], *, private: bool, message: str) -> str:
    """Publish files, the last of them last; on the Hub as one commit.

    Args:
        where: A repository of the Hub is made if there is none. A directory may hold older ones of these files only.
        files: By path: bytes, or where they are.
        private: Whether a new repository is private.
        message: Of the commit.

    Returns:
        The address, with the commit if there is one, or the directory.

    Raises:
        ZooError: they cannot be written there, or the directory holds something else.
    """
    if isinstance(where, Path):
        _write(where, files)
        return str(where)
    try:
        with errors_only("huggingface_hub"), _without_bars():
            if where.scheme == "hf":
                return str(_commit(where, files, private, message))
            system, root = _file_system(where)
            for name, content in files.items():
                system.pipe_file(f"{root}/{name}", _bytes_of(content))
    except ZooError:
        raise
    except Exception as e:
        raise ZooError(
            f"{where} cannot be written ({type(e).__name__}); check the address and your right to write there, and for "
            "the Hub log in with: hf auth login"
        ) from e
    return str(where)


def _write(directory: Path, files: Mapping[str, bytes | Path]) -> None:
    ours = {name.split("/")[0] for name in files}
    try:
        if directory.exists() and (foreign := sorted({f.name for f in directory.iterdir()} - ours)):
            raise ZooError(f"{directory} holds {foreign[0]}, which is not part of it; choose another directory")
        for name, content in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(directory / name, _bytes_of(content))
    except OSError as e:
        raise ZooError(
            f"{directory} cannot be written ({e.strerror or e}); choose another directory or make room"
        ) from e


def _bytes_of(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _commit(address: Address, files: Mapping[str, bytes | Path], private: bool, message: str) -> Address:
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    require_network(constants.ENDPOINT)
    hub = HfApi()
    hub.create_repo(address.place, private=private, exist_ok=True)
    operations = [
        CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
        for name, content in files.items()
    ]
    done = hub.create_commit(
        address.place, operations, commit_message=message, revision=address.revision or None
    )  # fmt: skip
    return replace(address, revision=done.oid)


def _zoos() -> Path:
    return cache_dir().absolute() / "zoos"


def _index(root: Path) -> Index:
    try:
        return Index.from_bytes(read_bytes(root / INDEX, MAX_JSON))
    except (OSError, ValueError) as e:
        raise ZooError(f"{root / INDEX} is damaged ({e}); remove {root} and run the same command again") from e


def _begin(address: Address, place: Path) -> None:
    """Fetch the index and put the directory that it makes in its place, with unchanged files of an older one."""
    partial = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
    old = partial.with_name(f"{partial.name}.old")
    partial.mkdir()
    try:
        path, address = _download(address, INDEX, partial / _ARRIVING, MAX_JSON)
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
    arrived, _ = _download(address, file, root / _ARRIVING, entry.size)
    with arrived.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if arrived.stat().st_size != entry.size or found != entry.sha256:
        arrived.unlink()
        raise ZooError(
            f"{address}/{file} does not match its checksum, so it was not kept; it may have changed since the zoo was "
            f"first read: try mvp-edge zoo fetch {_plain(address)}"
        )
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    arrived.replace(root / file)
    sync_directory((root / file).parent)


def _download(address: Address, file: str, into: Path, limit: int) -> tuple[Path, Address]:
    """Fetch a file of at most `limit` bytes below `into`, going on where it broke off.

    Returns:
        Where it is, and the address with its revision.

    Raises:
        OSError: the disk fails.
        ZooError: it is larger, missing, or cannot be fetched.
    """
    try:
        with errors_only("huggingface_hub"), _without_bars():
            return (_from_hub if address.scheme == "hf" else _from_store)(address, file, into, limit)
    except ZooError:
        raise
    except Exception as e:
        if isinstance(e, OSError) and (e.errno in _DISK or str(into) in str(e.filename)):
            raise
        raise ZooError(_unfetched(address, file, e)) from e


def _from_hub(address: Address, file: str, into: Path, limit: int) -> tuple[Path, Address]:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    if not constants.HF_HUB_OFFLINE:
        require_network(constants.ENDPOINT)
    found = get_hf_file_metadata(hf_hub_url(address.place, file, revision=address.revision or None))
    if found.size is None or found.size > limit:
        raise ZooError(_too_large(address, file, limit))
    address = replace(address, revision=found.commit_hash or address.revision)
    path = _partial(into, file)
    # Not `hf_hub_download`: it begins anew in each process. What arrived is kept in steps of 10 MB.
    with path.open("r+b") as out:
        if out.seek(0, os.SEEK_END) > found.size:
            out.truncate(out.seek(0))
        url = hf_hub_url(address.place, file, revision=address.revision)
        http_get(url, out, resume_size=out.tell(), headers=build_hf_headers(), expected_size=found.size)
    return path, address


def _from_store(address: Address, file: str, into: Path, limit: int) -> tuple[Path, Address]:
    system, root = _file_system(address)
    path = _partial(into, file)
    # Not fsspec's own `get`: it begins anew, and has no limit.
    with path.open("ab") as out:
        try:
            _copy(system.open(f"{root}/{file}", "rb", block_size=_BLOCK, cache_type="none"), out, limit)
        except ValueError:  # a web server that sends whole files only
            out.truncate(out.seek(0))
            _copy(system.open(f"{root}/{file}", "rb", block_size=0), out, limit)
    if path.stat().st_size > limit:
        path.unlink()
        raise ZooError(_too_large(address, file, limit))
    return path, address


def _partial(into: Path, file: str) -> Path:
    """Return where a file arrives; what has arrived of it is there."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / hashlib.sha256(file.encode()).hexdigest()
    path.touch()
    return path


def _copy(source: Any, out: BinaryIO, limit: int) -> None:
    """Append what `out` lacks of a source, up to one byte more than `limit`."""
    with source:
        if out.tell():
            source.seek(out.tell())
        while out.tell() <= limit and (block := source.read(min(_BLOCK, limit + 1 - out.tell()))):
            out.write(block)


def _file_system(address: Address) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(str(address))
    except ImportError as e:
        raise ZooError(f"{address.scheme}:// needs more packages ({e}); type: pip install 'mvp-edge[hub]'") from e


def _unfetched(address: Address, file: str, error: Exception) -> str:
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    login = "log in with: hf auth login" if address.scheme == "hf" else "check your credentials"
    if isinstance(error, RevisionNotFoundError):
        return f"{_plain(address)} has no revision {address.revision!r}; choose one of its branches, tags or commits"
    if isinstance(error, RepositoryNotFoundError | PermissionError) or "Credentials" in type(error).__name__:
        return f"{address} does not exist or is private; check the address, or {login}"
    if isinstance(error, EntryNotFoundError | FileNotFoundError) and not isinstance(error, ConnectionError):
        if file != INDEX:
            return f"{address} lacks {file}; its owner can publish it again"
        return f"{address} is not a published zoo (it has no {INDEX}); publish one with: mvp-edge zoo push"
    return (
        f"{file} of {address} cannot be fetched ({type(error).__name__}); connect to the network and run the same "
        "command again: what has arrived is kept"
    )


def _too_large(address: Address, file: str, limit: int) -> str:
    return f"{address}/{file} is larger than the {limit:,} bytes that it may have; its owner can publish it again"


def _plain(address: Address) -> str:
    return str(replace(address, revision=""))


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise ZooError(
            f"the cache {place} cannot be written ({e.strerror or e}); make room, or name another place with "
            "MVP_EDGE_CACHE"
        ) from e


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Hide huggingface_hub's progress bars, which would stand among ours."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()
