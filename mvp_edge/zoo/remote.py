"""Addresses of what is published, and files there and back.

hf://ORG/NAME[@REVISION]             a repository of the Hugging Face Hub
s3://BUCKET/PATH, gs://BUCKET/PATH   an object store
https://HOST/PATH                    any web server
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.network import errors_only, require_network
from mvp_edge.core.output import by_checksum, checksum_line
from mvp_edge.core.words import in_short

INDEX = "index.json.gz"  # of a published zoo
PUSHED = ".mvp-edge.sha256"  # checksums of what was pushed to a directory
_BLOCK = 4 << 20  # bytes
_HUB = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([A-Za-z0-9][\w./-]*))?/?")
_STORE = re.compile(r"(s3|gs|https|http)://([^\s?#@]+)")
_LOCAL = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/.*)?")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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

    @property
    def newest(self) -> str:
        """The address without its revision."""
        return str(replace(self, revision=""))

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
            scheme, marked, _ = text.partition("://")  # the rest may hold a password
            shown = f"an address that starts with {scheme}://" if marked else f"{text!r} is not an address; it"
            raise ConfigError(
                f"{shown} must be one of hf://ORG/NAME[@REVISION], s3://BUCKET/PATH, gs://BUCKET/PATH and "
                "https://HOST/PATH, without passwords or a query"
            )
        return Address(store[1], store[2].rstrip("/"))


def is_address(name: str) -> bool:
    """Return whether a zoo is named by an address, not by its directory or as a bundled one."""
    return "://" in name


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
        where: A repository of the Hub is made if there is none. A directory may hold only what was pushed to it
            before, unchanged; files that are no longer among these are removed.
        files: By path: bytes, or where they are.
        private: Whether a new repository is private.
        message: Of the commit.

    Returns:
        The address, with the commit if there is one, or the directory.

    Raises:
        ZooError: they cannot be written there, or the directory holds other files.
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
    try:
        ours, others = by_checksum(directory, PUSHED) if directory.exists() else ({}, [])
        if others:
            raise ZooError(
                f"{directory} holds files that `mvp-edge push` did not write, or that were changed since: "
                f"{in_short(others)}; move them, or choose a new directory"
            )
        lines = {name: checksum_line(_bytes_of(content), name) for name, content in files.items()}
        directory.mkdir(parents=True, exist_ok=True)
        _list(directory, {*ours.values(), *lines.values()})  # both, so that what breaks off can be pushed again
        for name, content in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(directory / name, _bytes_of(content))
        for name in ours.keys() - lines.keys():
            (directory / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds more
                (directory / name).parent.rmdir()
        _list(directory, lines.values())
    except OSError as e:
        raise ZooError(
            f"{directory} cannot be written ({e.strerror or e}); choose another directory or make room"
        ) from e


def _list(directory: Path, lines: Iterable[str]) -> None:
    write_atomically(directory / PUSHED, "".join(f"{line}\n" for line in sorted(lines)).encode())


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


def download(address: Address, file: str, into: Path, limit: int) -> tuple[Path, Address]:
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
        return f"{address.newest} has no revision {address.revision!r}; choose one of its branches, tags or commits"
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
