"""The result directory: what may be overwritten, and how a new result replaces an old one as a whole."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from mvp_edge.core.errors import ConfigError
from mvp_edge.core.places import resolved
from mvp_edge.core.words import in_short

Kind = Literal["result", "family", "export"]

# Any program may write a report.json. Only with all of these keys is it one of this tool's.
_RECORDS: dict[Kind, tuple[str, frozenset[str]]] = {
    "result": ("report.json", frozenset({"task", "base", "keep", "settings", "environment", "files"})),
    "family": ("index.json", frozenset({"task", "base", "models", "environment", "files"})),
    "export": ("preprocessing.json", frozenset({"format", "input", "normalisation", "output", "classes"})),
}
_INSIDE: dict[Kind, tuple[Kind, ...]] = {"result": ("export",), "family": ("result",), "export": ()}
# The record of an export lists no files, so all that an export can hold are named here.
_EXPORTED = frozenset(
    {
        *("README.md", "dense.js", "index.html", "labels.txt", "preprocessing.json"),
        *(f"model{p}{end}" for p in ("", "-fp16", "-int8") for end in (".onnx", ".ort", ".with_runtime_opt.ort")),
        *("required_operators.config", "required_operators.with_runtime_opt.config"),
        *("manifest.webmanifest", "worker.js", "icon.svg"),
        *("model.tflite", "model-int8.tflite", "model.param", "model.bin"),
    }
)
_PACKAGE = "model.mlpackage"  # a directory
_PACKAGED = frozenset({"Manifest.json", "model.mlmodel", "weight.bin"})
SAMPLE, SAMPLE_SUMS = "sample", "files.sha256"  # a directory, and the checksums of its files
_CLUTTER = (".DS_Store", "Thumbs.db", "desktop.ini")  # left by file managers


@dataclass(frozen=True)
class Contents:
    """What a directory of this tool contains.

    Attributes:
        kind: One model, a family of models, or a folder made by `export`.
        exports: Folders inside made by `export`, relative to the directory.
        foreign: Files and folders that are not part of it, another result among them, relative to the directory.
    """

    kind: Kind
    exports: tuple[str, ...]
    foreign: tuple[str, ...]


def survey(directory: Path, *kinds: Kind) -> Contents | None:
    """Return the contents of a directory of one of these kinds, or None if it is of none of them."""
    for kind in kinds:
        name, keys = _RECORDS[kind]
        record = _record(directory / name)
        if keys <= record.keys():
            return _survey(directory, kind, record)
    return None


def results_inside(directory: Path) -> list[str]:
    """Return the results in a directory that is not one itself, as the models of a family are."""
    name, _ = _RECORDS["result"]
    return [] if (directory / name).exists() else [str(p.parent) for p in sorted(directory.glob(f"*/{name}"))]


def check_output(
    out: Path,
    *,
    force: bool,
    kinds: Sequence[Kind] = ("result", "family"),
    inputs: Sequence[Path | str | None] = (),
) -> None:
    """Check, before any work, that a result can be written.

    Args:
        out: The directory.
        force: Whether an older result may be replaced.
        kinds: What may be replaced: a directory of another kind, or one with foreign files, may not.
        inputs: What the result is made from, where it is a path; replacing `out` must not delete it.

    Raises:
        ConfigError: the directory exists and may not be replaced, or its parent cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; choose a directory with --out")
    place = resolved(out)
    if Path.cwd().is_relative_to(place):  # the swap would leave the shell in a deleted directory
        raise ConfigError(f"{out} is or contains the current directory; choose a directory inside it with --out")
    for kept in inputs:
        if kept is not None and Path(kept).exists() and resolved(Path(kept)).is_relative_to(place):
            raise ConfigError(f"{out} contains the input {kept}; choose another directory with --out")
    if out.exists() and any(out.iterdir()):
        _check_replaceable(out, survey(out, *kinds), force=force)
    check_writable(out)


def check_local(out: Path, option: str = "--out") -> None:
    """Check that what the command's option names is no address.

    Raises:
        ConfigError: it is one.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(out)):
        raise ConfigError(
            f"{out} is an address; choose a place on this computer with {option}; `mvp-edge push` and "
            "`mvp-edge zoo push` publish results and zoos"
        )


def check_writable(out: Path, option: str = "--out") -> None:
    """Check that a file or directory can be made, with its parent directories.

    Args:
        out: The file or directory.
        option: The command's option that names it.

    Raises:
        ConfigError: it cannot, is an address, or is a loop of symbolic links.
    """
    check_local(out, option)
    parent = resolved(out).parent
    while not parent.exists():
        parent = parent.parent
    probe = parent / f".{out.name}.{secrets.token_hex(4)}"
    try:  # permissions do not show that a file system is read-only
        probe.mkdir()
        probe.rmdir()
    except OSError as e:
        raise ConfigError(f"cannot write to {parent} ({e.strerror or e}); choose another place with {option}") from e


@contextmanager
def result_directory(out: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Yield a temporary directory that becomes `out` when the block succeeds and is deleted when it fails.

    Args:
        out: The directory.
        check: Raises if `out` may not be replaced, as `check_output` does. Called before the swap, since `out` may
            have changed in the meantime.

    Raises:
        ConfigError: the directory may not be replaced or cannot be written, or the disk is full.
    """
    out = resolved(out)
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    old = partial.with_name(f"{partial.name}.old")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        with _in_use(partial):
            try:
                partial.mkdir()
                yield partial
                check()
                try:
                    if out.exists():
                        out.rename(old)
                    partial.rename(out)
                except BaseException:
                    if old.exists() and not out.exists():
                        old.rename(out)
                    raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                shutil.rmtree(old, ignore_errors=True)
    except OSError as e:
        raise ConfigError(
            f"cannot write the result to {out} ({e.strerror or e}); free some space, or choose another directory with "
            "--out"
        ) from e


def checksum_line(data: bytes, name: str) -> str:
    """Return the line of a file in a list of checksums, as `sha256sum` reads it."""
    return f"{hashlib.sha256(data).hexdigest()}  {name}"


def by_checksum(directory: Path, sums: str) -> tuple[dict[str, str], list[str]]:
    """Return the files of a directory that are as its list of checksums has them, and the others.

    Args:
        directory: It.
        sums: Name of the list in it; without one, nothing in the directory was written by mvp-edge.

    Returns:
        The line of each file that is as it was written, by name; and names of what was added or edited since.
    """
    try:
        lines = {*(directory / sums).read_text(encoding="utf-8").splitlines()}
    except (OSError, ValueError):
        return {}, sorted(p.name for p in directory.iterdir() if p.name not in _CLUTTER)
    ours, others, known = dict[str, str](), list[str](), {line.partition("  ")[2] for line in lines}
    for path in sorted(directory.rglob("*")):  # not the names in the list, which may lead out of the directory
        name = path.relative_to(directory).as_posix()
        if (path.is_dir() and not path.is_symlink()) or path.name in _CLUTTER or name == sums:
            continue
        line = _line_of(path, name) if name in known else None
        if line is not None and line in lines:
            ours[name] = line
        else:
            others.append(name)
    return ours, others


def _is_unchanged(sample: Path) -> bool:
    """Return whether a project of `export` has all of its files as they were written, and no others."""
    ours, others = by_checksum(sample, SAMPLE_SUMS)
    if not ours or others:
        return False
    return {*ours.values()} == {*(sample / SAMPLE_SUMS).read_text(encoding="utf-8").splitlines()}


@contextmanager
def _in_use(partial: Path) -> Iterator[None]:
    """Hold a lock beside a temporary directory, made before and freed after it; the system frees that of a killed one.

    Where the file system has no locks none is held, and none can be taken to remove the directory either.
    """
    lock = FileLock(f"{partial}.lock", timeout=0)
    try:
        with suppress(OSError, NotImplementedError):
            lock.acquire()
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _remove_leftovers(out: Path) -> None:
    """Remove temporary directories that killed processes left beside `out`, and no other that may be named alike.

    A result that such a process had set aside, and not replaced yet, is put back.
    """
    lock_of = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{8}}\.lock")
    found: list[Path] = []
    with suppress(OSError):
        found += [f for f in out.parent.iterdir() if lock_of.fullmatch(f.name)]
    for file in found:
        partial = file.with_suffix("")
        old = partial.with_name(f"{partial.name}.old")
        if not (partial.exists() or old.exists()):
            continue  # its process may not hold the lock yet
        with suppress(OSError, NotImplementedError), FileLock(file, timeout=0):  # it is held while the process runs
            shutil.rmtree(partial, ignore_errors=True)
            if out.exists():
                shutil.rmtree(old, ignore_errors=True)
            elif old.exists():
                old.rename(out)
            if not old.exists():
                file.unlink(missing_ok=True)


def _check_replaceable(out: Path, contents: Contents | None, *, force: bool) -> None:
    if contents is None:
        raise ConfigError(
            f"{out} is not a result of mvp-edge, so --force does not replace it; choose another directory with --out"
        )
    if contents.foreign:
        first = shlex.quote(str(out / contents.foreign[0]))
        raise ConfigError(
            f"{out} also contains what is not part of the {contents.kind}, which --force does not delete: "
            f"{in_short(contents.foreign, 5)}; move it away (mv {first} ELSEWHERE), or choose another "
            "directory with --out"
        )
    if not force:
        exports = f", with its exports ({in_short(contents.exports, 5)})," if contents.exports else ""
        raise ConfigError(f"{out} exists; replace it{exports} with --force, or choose another directory with --out")


def _survey(directory: Path, kind: Kind, record: dict[str, Any]) -> Contents:
    exports: list[str] = []
    foreign: list[str] = []
    for entry in sorted(directory.iterdir()):
        inside = survey(entry, *_INSIDE[kind]) if entry.is_dir() and not entry.is_symlink() else None
        if inside is None or (inside.kind == "result" and f"{entry.name}/" not in _files(record)):
            foreign += [] if _is_ours(entry, kind, record) else [entry.name]
            continue
        exports += [entry.name] if inside.kind == "export" else [f"{entry.name}/{name}" for name in inside.exports]
        foreign += [f"{entry.name}/{name}" for name in inside.foreign]
    return Contents(kind, tuple(exports), tuple(foreign))


def _is_ours(entry: Path, kind: Kind, record: dict[str, Any]) -> bool:
    if kind == "export" and entry.name == _PACKAGE and entry.is_dir() and not entry.is_symlink():
        return all(p.is_dir() or p.name in (*_CLUTTER, *_PACKAGED) for p in entry.rglob("*"))
    if kind == "export" and entry.name == SAMPLE and entry.is_dir() and not entry.is_symlink():
        return _is_unchanged(entry)
    if entry.is_dir():
        return False
    if kind == "export":
        return entry.name in _CLUTTER or entry.name in _EXPORTED
    return entry.name in (*_CLUTTER, *_files(record))


def _line_of(path: Path, name: str) -> str | None:
    try:
        return checksum_line(path.read_bytes(), name) if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def _files(record: dict[str, Any]) -> list[str]:
    return [str(name) for name in record["files"]] if isinstance(record["files"], list) else []


def _record(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # not a record of this tool
    return value if isinstance(value, dict) else {}
