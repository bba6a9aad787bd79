"""What this tool has written into a directory, by its own records, told apart from what is somebody's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["result", "family", "export"]

# A file called report.json may be anybody's: only together do these keys make it one of ours.
_RECORDS: dict[Kind, tuple[str, frozenset[str]]] = {
    "result": ("report.json", frozenset({"task", "base", "keep", "settings", "environment", "files"})),
    "family": ("index.json", frozenset({"task", "base", "models", "environment", "files"})),
    "export": ("preprocessing.json", frozenset({"format", "input", "normalisation", "output", "classes"})),
}
_INSIDE: dict[Kind, tuple[Kind, ...]] = {"result": ("export",), "family": ("result",), "export": ()}
# The record of an export is for apps and lists no files: these are all that there can be.
_EXPORTED = frozenset(
    {
        *("README.md", "dense.js", "index.html", "labels.txt", "preprocessing.json"),
        *(f"model{p}{end}" for p in ("", "-fp16", "-int8") for end in (".onnx", ".ort", ".with_runtime_opt.ort")),
        *("required_operators.config", "required_operators.with_runtime_opt.config"),
    }
)
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")  # file managers leave these wherever somebody looks


@dataclass(frozen=True)
class Written:
    """A directory that this tool has written.

    Attributes:
        kind: One model, a family of them, or a folder that `export` made.
        exports: Folders inside that `export` made, relative to it.
        strangers: What is somebody else's inside, relative to it.
    """

    kind: Kind
    exports: tuple[str, ...]
    strangers: tuple[str, ...]


def survey(directory: Path, *kinds: Kind) -> Written | None:
    """Return what of one of these kinds a directory holds, or None if it is none of them."""
    for kind in kinds:
        name, keys = _RECORDS[kind]
        record = _record(directory / name)
        if keys <= record.keys():
            return _survey(directory, kind, record)
    return None


def _survey(directory: Path, kind: Kind, record: dict[str, Any]) -> Written:
    exports: list[str] = []
    strangers: list[str] = []
    for entry in sorted(directory.iterdir()):
        inside = survey(entry, *_INSIDE[kind]) if entry.is_dir() and not entry.is_symlink() else None
        if inside is None or (inside.kind == "result" and f"{entry.name}/" not in _files(record)):
            strangers += [] if _is_ours(entry, kind, record) else [entry.name]
            continue
        exports += [entry.name] if inside.kind == "export" else [f"{entry.name}/{name}" for name in inside.exports]
        strangers += [f"{entry.name}/{name}" for name in inside.strangers]
    return Written(kind, tuple(exports), tuple(strangers))


def _is_ours(entry: Path, kind: Kind, record: dict[str, Any]) -> bool:
    if entry.is_dir():
        return False
    if kind == "export":
        return entry.name in _LITTER or entry.name in _EXPORTED
    return entry.name in (*_LITTER, *_files(record))


def _files(record: dict[str, Any]) -> list[str]:
    return [str(name) for name in record["files"]] if isinstance(record["files"], list) else []


def _record(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # whatever it is, it is not ours
    return value if isinstance(value, dict) else {}
