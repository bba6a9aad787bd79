"""Directories: of the package's assets, the cache, and the user's own files."""

from __future__ import annotations

import os
from pathlib import Path

from mvp_edge.core.errors import ConfigError

ASSETS = Path(__file__).parents[1] / "assets"  # files of the package
DEFAULT_ZOO = "cifar100-resnet18"


def cache_dir() -> Path:
    """Return the directory of files that can be made or downloaded again: `$MVP_EDGE_CACHE`, else `~/.cache/mvp-edge`.

    Raises:
        ConfigError: the variable is not set, and there is no home directory.
    """
    return _place("MVP_EDGE_CACHE", "~/.cache/mvp-edge")


def user_directory() -> Path:
    """Return the directory of the user's own files: `$MVP_EDGE_HOME`, else `~/.local/share/mvp-edge`.

    Raises:
        ConfigError: the variable is not set, and there is no home directory.
    """
    return _place("MVP_EDGE_HOME", "~/.local/share/mvp-edge")


def _place(variable: str, default: str) -> Path:
    try:
        return Path(os.environ.get(variable) or default).expanduser()
    except RuntimeError as e:  # as in some services and containers
        raise ConfigError(f"this user has no home directory; set HOME, or {variable} to a directory") from e
