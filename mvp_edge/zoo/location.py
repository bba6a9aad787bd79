"""Which zoo is meant and what its `zoo.json` says, without torch: what a base knows is asked before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvp_edge.core.errors import ZooError
from mvp_edge.core.places import ASSETS, DEFAULT_ZOO, user_directory
from mvp_edge.names.tasks import canonical

FORMAT = 3


def bundled_zoos() -> dict[str, Path]:
    """Return the zoos that ship with the package, by name."""
    return {p.parent.name: p.parent for p in sorted((ASSETS / "zoos").glob("*/zoo.json"))}


def read_zoo_file(name: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the directory of a bundled zoo, of any zoo by its directory, or of the default one, and its `zoo.json`.

    Raises:
        ZooError: there is no such zoo, or the directory is not a zoo.
    """
    name = name or DEFAULT_ZOO
    path = bundled_zoos().get(name) or Path(name)
    if not path.exists():
        known = ", ".join(bundled_zoos()) or "none"
        raise ZooError(f"zoo {name!r} is neither bundled ({known}) nor a directory; make one with: mvp-edge zoo build")
    try:
        value = json.loads((path / "zoo.json").read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ZooError(
                f"{path} has zoo format {value['format']!r}, but this version reads {FORMAT}; build it again with: "
                "mvp-edge zoo build"
            )
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


def read_generalist_classes(name: str | None) -> tuple[str, ...]:
    """Return what the generalists of a zoo know; timm's bases name no classes, and others fewer than these.

    Raises:
        ZooError: there is no such zoo, or it or a member is damaged.
    """
    path, value = read_zoo_file(name)
    found: dict[str, None] = {}
    for file in (f for root in roots(path, value) for f in sorted((root / "members").glob("[!.]*/member.json"))):
        try:
            member = json.loads(file.read_text(encoding="utf-8"))
            if member["kind"] == "generalist":
                found |= dict.fromkeys(c["name"] for c in member["classes"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise ZooError(f"{file} is damaged ({e}); look for others with: mvp-edge zoo verify") from e
    return tuple(found)


def read_known_classes(name: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the name of a zoo's base model and the classes that it or a generalist knows, a spelling of each.

    Raises:
        ZooError: there is no such zoo, or it or a member is damaged.
    """
    base, classes = read_base_classes(name)
    spelled = {canonical(c): c for c in (*read_generalist_classes(name), *classes)}
    return base, tuple(spelled.values())


def roots(path: Path, value: Mapping[str, Any]) -> list[Path]:
    """Return the directories that hold a zoo's members: its own and, of a bundled one, the user's, where it grows.

    Raises:
        ZooError: its `zoo.json` does not tell.
    """
    try:
        grown = user_directory() / "zoos" / f"{value['name']}-{value['base']['sha256'][:12]}"
    except (KeyError, TypeError) as e:
        raise damaged(path, e) from e
    return [path, grown] if ASSETS in path.parents else [path]


def damaged(path: Path, cause: Exception) -> ZooError:
    """Return the error for a `zoo.json` that does not hold what it should."""
    return ZooError(f"{path / 'zoo.json'} is damaged ({cause}); build the zoo again with: mvp-edge zoo build")
