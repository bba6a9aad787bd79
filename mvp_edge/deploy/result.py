"""Reading a directory that `prune` has left, with all of its problems told at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp_edge.core.errors import ExportError
from mvp_edge.models.bases import Base

MODELS = {"fp32": "model.onnx", "fp16": "model-fp16.onnx", "int8": "model-int8.onnx"}


@dataclass(frozen=True)
class Result:
    """What `prune` has left.

    Attributes:
        path: The directory.
        report: What `report.json` holds.
        base: The base model that the network was cut from.
        labels: Class names in the order of the logits.
        models: ONNX files by precision; others than `fp32` are there if they earned their place or were asked for.
    """

    path: Path
    report: dict[str, Any]
    base: Base
    labels: tuple[str, ...]
    models: dict[str, Path]


def read_result(directory: Path) -> Result:
    """Read what `prune` has left.

    Raises:
        ExportError: the directory is none, or files are missing or damaged.
    """
    if not directory.is_dir():
        raise ExportError(f"{directory} is no directory; name one that `mvp-edge prune` has left, such as out/")
    problems: list[str] = []
    report = _json(directory / "report.json", problems)
    plan = _json(directory / "plan.json", problems)
    labels = tuple(line for line in _text(directory / "labels.txt", problems).splitlines() if line)
    models = {k: directory / name for k, name in MODELS.items() if k == "fp32" or (directory / name).is_file()}
    if not models["fp32"].is_file():
        problems.append("model.onnx is missing")
    base = _base(plan, problems)
    if problems or base is None:
        raise ExportError(
            f"{directory} is no complete result: {'; '.join(problems)}; name a directory that `mvp-edge prune` has "
            "left, or make it again with: mvp-edge prune --force"
        )
    return Result(directory, report, base, labels, models)


def _base(plan: dict[str, Any], problems: list[str]) -> Base | None:
    if not plan:
        return None  # said already
    try:
        return Base.from_json(plan["base"])
    except (KeyError, TypeError) as e:
        problems.append(f"plan.json does not name its base model ({type(e).__name__}: {e})")
    return None


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    text = _text(path, problems)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as e:
        problems.append(f"{path.name} is damaged ({e})")
        return {}
    if not isinstance(value, dict) or not value:
        problems.append(f"{path.name} holds no JSON object")
        return {}
    return value


def _text(path: Path, problems: list[str]) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problems.append(f"{path.name} is missing")
        return ""
    except (OSError, ValueError) as e:
        problems.append(f"{path.name} cannot be read ({getattr(e, 'strerror', None) or e})")
        return ""
    if not text.strip():
        problems.append(f"{path.name} is empty")
    return text.strip()
