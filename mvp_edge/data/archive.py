"""Zip and tar archives of a folder: unpacked into a temporary directory, within bounds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from mvp_edge.core.errors import DataError
from mvp_edge.core.places import scratch_dir, stand_in
from mvp_edge.data.listing import Found

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MOST_FILES = 2_000_000
# Pictures hardly get smaller in an archive, uncompressed ones about ten times; a bomb does a thousand times.
GROWTH, ALLOWANCE = 20, 1 << 30
SPARE = 1 << 28  # bytes of the disk that stay free
_AT_ONCE = 1 << 24  # bytes of a tar file's own records, which are held in memory
_COPIED = 1 << 20
_OPEN: dict[str, Any] = {
    **dict.fromkeys((".gz", ".tgz"), gzip.open),
    **dict.fromkeys((".bz2", ".tbz2"), bz2.open),
    **dict.fromkeys((".xz", ".txz"), lzma.open),
}
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, ValueError)
_unpacked: dict[tuple[str, int, int], tuple[Path, Found]] = {}


def is_archive(path: Path) -> bool:
    """Return whether a file is an archive that can be read, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def unpacked(archive: Path) -> tuple[Path, Found]:
    """Unpack an archive into a temporary directory, which is deleted when the process ends.

    Returns:
        The directory, which has the name of the archive, and what of the archive is not unpacked. Pictures are opened
        by paths below the archive too, such as `photos.zip/cat/1.jpg`.

    Raises:
        DataError: The archive is damaged or encrypted, holds a path that leads out of it, or would unpack to more than
            the disk or `GROWTH` allows; nothing stays on the disk then.
    """
    status = archive.stat()
    key = str(archive.resolve()), status.st_size, status.st_mtime_ns
    if key not in _unpacked:
        with _explained(archive):
            target, aside = scratch_dir() / archive.name, Found()
            try:
                _unpack(archive, target, aside, status.st_size)
            except BaseException:
                shutil.rmtree(target.parent, ignore_errors=True)
                raise
        _unpacked[key] = target, aside
    stand_in(str(archive), _unpacked[key][0])
    target, aside = _unpacked[key]
    return target, {why: list(files) for why, files in aside.items()}


@contextmanager
def _explained(archive: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # zipfile's, of an encrypted file or an unknown compression
        raise DataError(f"{archive} cannot be unpacked: {error}; unpack it, and give the folder") from error
    except _DAMAGE as error:
        raise DataError(f"{archive} is damaged: {error or type(error).__name__}; copy or download it again") from error
    except OSError as error:
        if error.errno is None:  # bz2's, of a damaged file
            raise DataError(f"{archive} is damaged: {error}; copy or download it again") from error
        raise DataError(
            f"{archive} cannot be unpacked into {tempfile.gettempdir()}: {error.strerror or error}; "
            "TMPDIR names another directory"
        ) from error


def _unpack(archive: Path, target: Path, aside: Found, size: int) -> None:
    target.mkdir()
    left = min(ALLOWANCE + GROWTH * size, shutil.disk_usage(target).free - SPARE)
    entries = _zipped if archive.suffix.lower() == ".zip" else _tarred
    folders = {target}
    for number, (name, read) in enumerate(entries(archive), 1):
        shown = f"{archive}: {name}"
        if number > MOST_FILES:
            raise DataError(f"{archive} holds more than {MOST_FILES:,} files; unpack it, and give the folder")
        if read == "other":
            aside.setdefault(("links and devices in an archive", True), []).append(shown)
            continue
        path = target.joinpath(*_parts(name, archive))
        try:
            if read == "folder":
                path.mkdir(parents=True, exist_ok=True)
                continue
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(path.parent)
            file = path.open("xb")
        except (FileExistsError, NotADirectoryError):  # also a file where a folder is
            aside.setdefault(("twice in the archive", True), []).append(shown)
            continue
        with file, read() as stream:
            while chunk := stream.read(_COPIED):
                left -= len(chunk)
                if left < 0:
                    raise DataError(
                        f"{archive} of {size:,} bytes unpacks to more than {ALLOWANCE + GROWTH * size - left:,}, or "
                        "than the disk has free; if it can be trusted, unpack it and give the folder"
                    )
                file.write(chunk)


def _parts(name: str, archive: Path) -> list[str]:
    """Return the folders and the name of a file inside an archive.

    Raises:
        DataError: the path leads out of the archive.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise DataError(f"{archive} holds {name!r}, a path that leads out of it; it is not unpacked")
    return parts


Entry = tuple[str, Callable[[], IO[bytes]] | Literal["folder", "other"]]
"""A name in an archive, and what opens that file; or that it is a folder, or a link or device."""


def _zipped(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            name = info.filename.replace("\\", "/")  # as some programs on Windows write it
            kind = stat.S_IFMT(info.external_attr >> 16)
            if name.endswith("/"):
                yield name, "folder"
            else:
                yield name, (lambda info=info: packed.open(info)) if kind in (0, stat.S_IFREG) else "other"


def _tarred(archive: Path) -> Iterator[Entry]:
    opener = _OPEN.get(archive.suffix.lower(), open)
    with opener(archive, "rb") as stream, tarfile.open(fileobj=_Bounded(stream), mode="r:") as packed:
        while (info := packed.next()) is not None:
            vars(packed)["members"] = []  # which it would keep for all files
            if info.isdir():
                yield info.name, "folder"
            else:
                yield info.name, (lambda info=info: _file_of(packed, info)) if info.isreg() else "other"

        # A record that is damaged ends the file for `tarfile`. Zeros end it; reading on also compares checksums.
        packed.fileobj.seek(packed.offset)
        rest = packed.fileobj.read(_AT_ONCE)
        if not rest or rest.strip(b"\0"):
            raise ValueError(f"it breaks off or is changed at byte {packed.offset:,} of what it holds")


def _file_of(packed: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = packed.extractfile(info)
    assert file is not None  # it is a regular file
    return file


class _Bounded(io.BufferedReader):
    """A stream of which only little is read at once, as the size of a tar file's own records is what the file says."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _AT_ONCE:
            raise ValueError(f"a record of {size} bytes")
        return super().read(size)
