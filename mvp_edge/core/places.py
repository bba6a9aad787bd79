"""Directories: of the package's assets, the cache, the user's own files, and temporary ones."""

from __future__ import annotations

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

from mvp_edge.core.errors import ConfigError

ASSETS = Path(__file__).parents[1] / "assets"  # files of the package
DEFAULT_ZOO = "imagenet-lite0"
NAME = "mvp-edge"  # of the tool, in these directories
_stand_ins: dict[str, Path] = {}


def cache_dir() -> Path:
    """Return the directory of files that can be made or downloaded again.

    It is `$MVP_EDGE_CACHE`, else the system's own place: `~/.cache/mvp-edge` on Linux.

    Raises:
        ConfigError: the variable is not set, and there is no home directory.
    """
    return _place("MVP_EDGE_CACHE", lambda: platformdirs.user_cache_dir(NAME, appauthor=False))


def user_directory() -> Path:
    """Return the directory of the user's own files.

    It is `$MVP_EDGE_HOME`, else the system's own place: `~/.local/share/mvp-edge` on Linux.

    Raises:
        ConfigError: the variable is not set, and there is no home directory.
    """
    return _place("MVP_EDGE_HOME", lambda: platformdirs.user_data_dir(NAME, appauthor=False))


def scratch_dir() -> Path:
    """Return a new directory, which is deleted when the process ends.

    Raises:
        OSError: it cannot be made.
    """
    place = Path(tempfile.mkdtemp(prefix="mvp-edge-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def stand_in(name: str, place: Path) -> None:
    """Let paths below `name`, an archive or a data set, be found below a temporary directory: users know the former."""
    _stand_ins[name + os.sep] = place


def located(path: str | Path) -> str | Path:
    """Return where a file is: in a temporary directory, if its path is below what one stands in for."""
    text = str(path)
    return next((place / text.removeprefix(n) for n, place in _stand_ins.items() if text.startswith(n)), path)


def resolved(path: Path) -> Path:
    """Return a whole path without symbolic links; it need not exist.

    Not `Path.resolve`: of a loop of links Python 3.11 raises RuntimeError, and later versions return a path.

    Raises:
        ConfigError: the path leads into a loop of links.
    """
    try:
        path.stat()
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise ConfigError(f"{path} is a loop of symbolic links; remove the link, or name another path") from e
    return path.resolve()


def _place(variable: str, default: Callable[[], str]) -> Path:
    try:
        return Path(os.environ.get(variable) or default()).expanduser()
    except RuntimeError as e:  # as in some services and containers
        raise ConfigError(f"this user has no home directory; set HOME, or {variable} to a directory") from e
