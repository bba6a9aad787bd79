"""A result directory that appears complete or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mvp_edge.core.errors import ConfigError
from mvp_edge.core.written import Kind, Written, survey

SHOWN_ENTRIES = 5


def check_output(
    out: Path,
    *,
    force: bool,
    kinds: Sequence[Kind] = ("result", "family"),
    inputs: Sequence[Path | str | None] = (),
) -> None:
    """Say early, before any work, whether a result can be written.

    Args:
        out: The directory.
        force: Whether an older result may be replaced.
        kinds: What may be replaced; any other directory, and one with entries of its owner's, is somebody's own.
        inputs: What the result is made from, where it is a path; replacing `out` must not delete it.

    Raises:
        ConfigError: the directory exists and may not be replaced, or its parent cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; choose a directory with --out")
    place = out.resolve()
    if Path.cwd().is_relative_to(place):  # it would be swapped for a new one under the shell's feet
        raise ConfigError(f"{out} is or holds the current directory; choose a directory inside it with --out")
    for kept in inputs:
        if kept is not None and Path(kept).exists() and Path(kept).resolve().is_relative_to(place):
            raise ConfigError(f"{out} holds {kept}, which is needed; choose another directory with --out")
    if out.exists() and any(out.iterdir()):
        _check_replaceable(out, survey(out, *kinds), force=force)
    check_writable(out)


def _check_replaceable(out: Path, written: Written | None, *, force: bool) -> None:
    if written is None:
        raise ConfigError(
            f"{out} holds something else than a result of this tool, which --force does not replace; choose another "
            "directory with --out"
        )
    if written.strangers:
        raise ConfigError(
            f"{out} also holds what this tool did not write, which --force does not delete: "
            f"{_listed(written.strangers)}; move it away, or choose another directory with --out"
        )
    if not force:
        exports = f", with what `export` made in it ({_listed(written.exports)})," if written.exports else ""
        raise ConfigError(f"{out} exists; replace it{exports} with --force or choose another with --out")


def _listed(entries: Sequence[str]) -> str:
    more = len(entries) - SHOWN_ENTRIES
    return ", ".join(entries[:SHOWN_ENTRIES]) + (f" and {more} more" if more > 0 else "")


def check_writable(out: Path) -> None:
    """Make sure that a file or directory can be made, with the directories that it lies in.

    Raises:
        ConfigError: it cannot.
    """
    parent = out.resolve().parent
    while not parent.exists():
        parent = parent.parent
    probe = parent / f".{out.name}.{secrets.token_hex(4)}"
    try:  # permissions do not tell of read-only and other special file systems
        probe.mkdir()
        probe.rmdir()
    except OSError as e:
        raise ConfigError(f"{parent} cannot be written ({e.strerror or e}); choose another place with --out") from e


@contextmanager
def result_directory(out: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Yield a temporary directory that becomes `out` when the block succeeds and vanishes when it does not.

    Args:
        out: The directory.
        check: Raises if `out` may not be replaced, as `check_output` does. It is asked before the swap, since somebody
            may have put something there in the meantime.

    Raises:
        ConfigError: the directory may not be replaced or cannot be written, or there is no space left.
    """
    out = out.resolve()
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    old = partial.with_name(f"{partial.name}.old")
    try:
        partial.mkdir(parents=True)
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
    except OSError as e:
        raise ConfigError(f"cannot write the result to {out} ({e.strerror or e}); make room or use --out") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
