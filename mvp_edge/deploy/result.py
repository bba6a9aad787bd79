"""A result directory of `prune`, and the whole base model that the result was cut from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mvp_edge.core.errors import ConfigError, ExportError, ZooError
from mvp_edge.core.output import results_inside
from mvp_edge.core.words import in_short
from mvp_edge.export import export_onnx
from mvp_edge.models.architectures import head_of
from mvp_edge.models.bases import Base
from mvp_edge.report import Report
from mvp_edge.zoo.store import open_zoo

MODELS = {"fp32": "model.onnx", "fp16": "model-fp16.onnx", "int8": "model-int8.onnx"}


@dataclass(frozen=True)
class Result:
    """A result directory.

    Attributes:
        path: The directory.
        report: Its report.
        base: The base model that the network was cut from.
        labels: Class names in the order of the logits.
        models: ONNX files by precision: `fp32`, and others if they passed the accuracy and size gate or were requested.
    """

    path: Path
    report: Report
    base: Base
    labels: tuple[str, ...]
    models: dict[str, Path]


def read_result(directory: Path) -> Result:
    """Read a result directory, and report all of its problems at once.

    Raises:
        ExportError: the directory does not exist or is a family of results, or files are missing or damaged.
    """
    if not directory.is_dir():
        raise ExportError(f"{directory} is not a directory; give a result of `mvp-edge prune`, such as out/")
    if inside := results_inside(directory):
        raise ExportError(f"{directory} holds several results; give one of them: {in_short(inside)}")
    problems: list[str] = []
    report = _report(directory / "report.json", problems)
    plan = _json(directory / "plan.json", problems)
    labels = tuple(line for line in _text(directory / "labels.txt", problems).splitlines() if line)
    models = {k: directory / name for k, name in MODELS.items() if k == "fp32" or (directory / name).is_file()}
    if not models["fp32"].is_file():
        problems.append("model.onnx is missing")
    base = _base(plan, problems)
    if problems or base is None or report is None:
        raise ExportError(
            f"{directory} is not a complete result: {'; '.join(problems)}; give a result of `mvp-edge prune`, or make "
            "it again with: mvp-edge prune --out DIR"
        )
    return Result(directory, report, base, labels, models)


def _report(path: Path, problems: list[str]) -> Report | None:
    value = _json(path, problems)
    try:
        return Report.from_json(value) if value else None
    except ValueError as e:
        problems.append(f"{path.name} is damaged ({e})")
    return None


def _base(plan: dict[str, Any], problems: list[str]) -> Base | None:
    if not plan:
        return None  # already reported
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
        problems.append(f"{path.name} is not a JSON object")
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


def write_dense(result: Result, zoo: str | None, path: Path) -> None:
    """Write the base model of a result to `path`.

    Args:
        result: The result directory.
        zoo: Name or directory of the zoo with that base; None takes the zoo in the report.
        path: The ONNX file.

    Raises:
        ExportError: the base is not found, or is not the one that the result was cut from.
    """
    base, model = _load(result, zoo)
    if base.sha256 != result.base.sha256:
        raise ExportError(
            f"the result was cut from {result.base.name} ({result.base.sha256[:12]}), but this zoo's base is "
            f"{base.name} ({base.sha256[:12]}); give the zoo that the result was made with: --zoo DIR"
        )
    outputs = head_of(model).out_features
    export_onnx(
        model.eval(), path, input_size=base.input_size, mean=base.mean, std=base.std,
        labels=base.classes or [str(i) for i in range(outputs)], metadata={"base": base.name},
    )  # fmt: skip


def _load(result: Result, zoo: str | None) -> tuple[Base, nn.Module]:
    try:
        opened = open_zoo(zoo or result.report.zoo)
        return opened.base, opened.load_base()
    except (ConfigError, ZooError) as e:
        raise ExportError(
            f"the dense model {result.base.name} is not found ({e}); give the zoo that the result was made with "
            "(--zoo DIR), or leave out --with-dense"
        ) from e
