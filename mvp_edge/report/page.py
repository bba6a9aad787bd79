"""The report of a run: what it won, what it lost, and how it came about, as JSON and as one self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ExportError
from mvp_edge.core.templates import load_template, read_asset
from mvp_edge.report.sections import sections

UNIT = re.compile(r"(?<=\d) (?=%|(?:[kMG]|KiB|MiB|ms|s)\b)")  # a line must not end between a number and it


@dataclass(frozen=True)
class Sample:
    """One image and what the model says.

    Attributes:
        image: PNG data URI, from `image_uri`.
        true: Name of the right class.
        predicted: Name of the predicted class.
        confidence: Its softmax probability, in [0, 1].
    """

    image: str
    true: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Extras:
    """What the page shows beyond the report.

    Attributes:
        samples: Pictures with the model's answers.
        command: What made the report.
    """

    samples: tuple[Sample, ...] = ()
    command: str = ""


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write `report` to `path`, complete or not at all.

    Raises:
        ExportError: the file cannot be written.
        ValueError: a number is not finite; what could not be measured is null, with a warning that says why.
    """
    _write(path, json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def render_html(report: Mapping[str, Any], plan: Mapping[str, Any], extras: Extras, path: Path) -> None:
    """Write the report as one page that needs no network and follows the reader's light or dark setting.

    Args:
        report: What `report.json` holds.
        plan: The keep plan as JSON.
        extras: Sample predictions and the command.
        path: File to write; it appears complete or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    render(
        "template.html.j2",
        path,
        samples=[_caption(sample) for sample in extras.samples],
        command=extras.command,
        **sections(report, plan),
    )


def render(template: str, path: Path, **values: Any) -> None:
    """Write one of this package's pages.

    Raises:
        ExportError: the file cannot be written.
    """
    style = read_asset("report", "style.css")
    text = load_template("report", template).render(style=style, **values)
    _write(path, UNIT.sub("\N{NO-BREAK SPACE}", text) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode("utf-8"))
    except OSError as e:
        raise ExportError(f"{path} cannot be written ({e.strerror or e}); choose another directory with --out") from e


def _caption(sample: Sample) -> dict[str, Any]:
    return {
        "image": sample.image,
        "true": sample.true,
        "predicted": sample.predicted,
        "confidence": f"{100 * sample.confidence:.0f} %",
        "right": sample.true == sample.predicted,
    }
