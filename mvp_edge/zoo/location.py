"""Which zoo is meant and what its `zoo.json` says, without torch: what a base knows is asked before it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvp_edge.core.errors import ZooError
from mvp_edge.core.places import ASSETS, DEFAULT_ZOO, cache_dir, user_directory
from mvp_edge.core.untrusted import MAX_JSON, check_printable, read_bytes, read_json
from mvp_edge.zoo.mirror import is_mirror, mirror, require_file
from mvp_edge.zoo.remote import is_address

FORMAT = 3
BUILD = "build the zoo again with: mvp-edge zoo build"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MADE = "bases"  # a directory of the cache


def bundled_zoos() -> dict[str, Path]:
    """Return the zoos that ship with the package, by name."""
    return {p.parent.name: p.parent for p in sorted((ASSETS / "zoos").glob("*/zoo.json"))}


def read_zoo_file(name: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the directory of a zoo and its `zoo.json`.

    Args:
        name: Of a bundled zoo, its directory, or its address if it is elsewhere; None is the default.

    Raises:
        ConfigError: it is an address that cannot be read.
        ZooError: there is no such zoo, it cannot be fetched, or the directory is not a zoo.
    """
    name = name or DEFAULT_ZOO
    path = mirror(name) if is_address(name) else bundled_zoos().get(name) or Path(name)
    if not path.exists():
        known = ", ".join(bundled_zoos()) or "none"
        raise ZooError(f"zoo {name!r} is neither bundled ({known}) nor a directory; make one with: mvp-edge zoo build")
    try:
        value = read_json(read_bytes(path / "zoo.json", MAX_JSON))
        if value["format"] != FORMAT:
            raise ZooError(
                f"{path} has zoo format {value['format']!r}, but this version reads {FORMAT}; build it again with: "
                "mvp-edge zoo build"
            )
        _check(value)
    except OSError as e:
        raise ZooError(f"{path} is not a zoo (it has no readable zoo.json); make one with: mvp-edge zoo build") from e
    except (ValueError, KeyError, TypeError) as e:
        raise damaged(path, e) from e
    return path, value


def read_base_classes(name: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the name of a zoo's base model and the classes that it knows; `name` as for `read_zoo_file`.

    Raises:
        ZooError: there is no such zoo, or the directory is not a zoo.
    """
    path, value = read_zoo_file(name)
    try:
        return value["base"]["name"], tuple(value["base"]["classes"])
    except (KeyError, TypeError) as e:
        raise damaged(path, e) from e


def roots(path: Path, value: Mapping[str, Any]) -> list[Path]:
    """Return the directories that hold a zoo's members.

    They are its own and, of a bundled one or one from elsewhere, one of the user's, where it grows.
    """
    if ASSETS not in path.parents and not is_mirror(path):
        return [path]
    name = re.sub(r"[^\w.-]", "-", value["name"]).lstrip(".")[:100]
    return [path, user_directory() / "zoos" / f"{name}-{value['base']['sha256'][:12]}"]


def read_file(root: Path, file: str) -> bytes:
    """Return the bytes of a file of a zoo, which is fetched first if the zoo is elsewhere.

    Raises:
        OSError: it cannot be read.
        ZooError: it cannot be fetched, or is too large.
    """
    path = require_file(root, file)
    try:
        return read_bytes(path)
    except ValueError as e:
        raise ZooError(f"{path} cannot be read ({e}); {repair(root)}") from e


def _check(value: Mapping[str, Any]) -> None:
    """Refuse names and sums that are none, which every reader of a zoo relies on: zoos are untrusted files.

    Raises:
        KeyError, TypeError, ValueError: something is missing or not what it should be.
    """
    base = value["base"]
    if not isinstance(base["classes"], list):
        raise ValueError("its classes are not a list")
    check_printable([value["name"], base["name"], *base["classes"]])
    if not _SHA256.fullmatch(base["sha256"]):
        raise ValueError("its base has no checksum")


def damaged(path: Path, cause: Exception) -> ZooError:
    """Return the error for a `zoo.json` that does not hold what it should."""
    return ZooError(f"{path / 'zoo.json'} is damaged ({cause}); {repair(path, BUILD)}")


def made_zoos() -> Path:
    """Return the directory in the cache of zoos that `prune --base` makes."""
    return cache_dir().absolute() / _MADE


def repair(root: Path, otherwise: str = "copy the zoo again from where it came from") -> str:
    """Return what to do about damaged files of a zoo, in the words of an error message.

    Args:
        root: Directory of the zoo.
        otherwise: What to do if it is neither of the package nor in the cache.
    """
    if ASSETS in root.parents:
        return "repair the package with: pip install --force-reinstall --no-deps mvp-edge"
    if is_mirror(root):
        return f"remove {root}, and it is fetched again"
    # The name comes first: without a home directory there is no cache to compare with.
    made = root.parent.name == _MADE and root.parent.resolve() == made_zoos().resolve()
    return f"remove {root}, and it is made again" if made else otherwise
