"""The report of a run as one self-contained page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from mvp_edge.core.templates import load_template, read_asset
from mvp_edge.report.record import Report, write_text
from mvp_edge.report.sections import sections

if TYPE_CHECKING:
    from torch import Tensor

UNIT = re.compile(r"(?<=\d) (?=%|(?:[kMG]|KiB|MiB|ms|s)\b)")  # a line must not end between a number and it


@dataclass(frozen=True)
class Sample:
    """One image and the model's prediction.

    Attributes:
        image: PNG data URI, from `image_uri`.
        true: Name of the right class.
        predicted: Name of the predicted class.
        confidence: Its softmax probability, in [0, 1].
        file: Name of its file, if it comes from one.
    """

    image: str
    true: str
    predicted: str
    confidence: float
    file: str = ""


@dataclass(frozen=True)
class Extras:
    """What the page shows beyond the report.

    Attributes:
        samples: Test images with the model's predictions.
        command: The command that repeats the run.
        errors: Test images that the model is surest of and gets wrong.
        copies: PNG data URIs of test images that were left out, each with the image that it is a copy of.
    """

    samples: tuple[Sample, ...] = ()
    command: str = ""
    errors: tuple[Sample, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()


def render_html(report: Report, kept: Mapping[str, Sequence[int]], extras: Extras, path: Path) -> None:
    """Write the report as one page that needs no network and follows the reader's light or dark setting.

    Args:
        report: The report.
        kept: Kept units by group.
        extras: Sample predictions and the command.
        path: File to write; it appears complete or not at all.

    Raises:
        ExportError: the file cannot be written.
    """
    samples, errors = ([_caption(sample) for sample in some] for some in (extras.samples, extras.errors))
    render(
        "template.html.j2",
        path,
        samples=samples,
        errors=errors,
        command=extras.command,
        copies=extras.copies,
        **sections(report, kept),
    )


def render(template: str, path: Path, **values: Any) -> None:
    """Write one of this package's pages.

    Raises:
        ExportError: the file cannot be written.
    """
    style = read_asset("report", "style.css")
    text = load_template("report", template).render(style=style, **values)
    write_text(path, UNIT.sub("\N{NO-BREAK SPACE}", text) + "\n")


def image_uri(image: np.ndarray | Tensor, kind: Literal["PNG", "JPEG"] = "PNG") -> str:
    """Return a uint8 RGB image `(3, H, W)` as a data URI."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise ValueError(f"the image is {pixels.dtype} {pixels.shape}; uint8 (3, H, W) is required")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(buffer, kind, optimize=True)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _caption(sample: Sample) -> dict[str, Any]:
    return {
        "image": sample.image,
        "true": sample.true,
        "predicted": sample.predicted,
        "confidence": f"{100 * sample.confidence:.0f} %",
        "file": sample.file,
        "right": sample.true == sample.predicted,
    }
