"""Making a new zoo: crash-safe, and safe where several processes make the same one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from torch import nn

from mvp_edge.config import Packing
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ZooError
from mvp_edge.models.bases import Base, pack_base
from mvp_edge.models.tensors import squeeze
from mvp_edge.zoo.member import FORMAT
from mvp_edge.zoo.store import BASE, Zoo, open_zoo


def create_zoo(path: Path, base: Base, model: nn.Module, packing: Packing = "int8") -> Zoo:
    """Make an empty zoo for a base model, or open the one that is there.

    Raises:
        ZooError: the directory holds something else or a zoo of another base model, or cannot be written.
    """
    data = squeeze(pack_base(model, base, packing))
    sha256 = hashlib.sha256(data).hexdigest()
    # One look decides: another process may be making the zoo. One that was killed meanwhile has left no more than
    # these, and names with a dot, under which files are written first.
    found = _visible(path)
    if "zoo.json" in found:
        zoo = open_zoo(str(path))
        if zoo.base.name != base.name or zoo.base.sha256 != sha256:
            raise ZooError(
                f"{path} is a zoo of {zoo.base.name} ({zoo.base.sha256[:12]}), not of {base.name} ({sha256[:12]}); "
                "choose another directory"
            )
        return zoo
    if (path.exists() and not path.is_dir()) or found - {BASE, "members"}:
        raise ZooError(f"{path} exists and is no zoo; choose another directory")
    try:
        (path / "members").mkdir(parents=True, exist_ok=True)
        write_atomically(path / BASE, data)
        value = {
            "format": FORMAT,
            "name": path.resolve().name,
            "packing": packing,
            "base": replace(base, sha256=sha256).to_json(),
        }
        write_atomically(path / "zoo.json", json.dumps(value, indent=1).encode())
    except OSError as e:
        raise ZooError(f"zoo {path} cannot be written ({e}); choose another directory or make room") from e
    return open_zoo(str(path))


def _visible(directory: Path) -> set[str]:
    """Return the names in a directory that do not begin with a dot; none if it is no directory."""
    return {f.name for f in directory.iterdir() if not f.name.startswith(".")} if directory.is_dir() else set()
