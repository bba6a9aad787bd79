"""What the page shows of the delivered files: how to use them, precisions, operators, how few bytes are not weights."""

from __future__ import annotations

import json
import shlex
from typing import Any

from mvp_edge.report import figures
from mvp_edge.report.record import ImageRecord, KnownRecord, OutputRecord, PrecisionRecord, Report

PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "INT8"}
TARGETS = ("android", "ios", "web")


def usage(report: Report) -> dict[str, Any]:
    """Return what an app needs to run `model.onnx`: facts, lines of Python, and the command for a device."""
    image, output = report.interface.input, report.interface.output
    low, high = image.range
    shape = " x ".join(str(side or 1) for side in image.shape)
    kept = [row.file for row in report.precisions.files[1:] if row.kept]
    return {
        "facts": [
            ("File", "model.onnx" + (f"; {', '.join(kept)} has the same input and output" if kept else "")),
            ("Input", f"{image.name}: {image.dtype}, {shape} ({image.layout}), or a batch of images"),
            ("Pixels", f"raw {image.channels} from {low:g} to {high:g}; the model normalises them itself"),
            (
                "Output",
                f"{output.name}: {output.shape[-1]} logits in the order of labels.txt; "
                f"probabilities are softmax({output.name}{_divisor(output.temperature)})",
            ),
            *_known(report),
        ],
        "python": _python(image, output, report.known),
        "export": f"mvp-edge export {shlex.quote(report.out)} --target {TARGETS[0]}",
        "targets": TARGETS[1:],
    }


def _known(report: Report) -> list[tuple[str, str]]:
    if (known := report.known) is None:
        return []
    return [("Known", f"{known.output}: one number per image; below {known.threshold:.2f} it shows none of them")]


def _divisor(temperature: float) -> str:
    return "" if temperature == 1 else f" / {temperature:.3g}"


def _python(image: ImageRecord, output: OutputRecord, known: KnownRecord | None) -> str:
    """Return lines of Python, short enough for the page, that classify a picture."""
    size = f"({image.width}, {image.height})"
    axes = ".transpose(0, 3, 1, 2)" if image.layout == "NCHW" else ""
    scale = "" if image.dtype == "uint8" else " / np.float32(255)"
    names = [output.name] if known is None else [output.name, known.output]
    label = f"labels[{output.name}[0].argmax()]"
    return "\n".join(
        (
            "import numpy as np, onnxruntime as ort",
            "from PIL import Image, ImageOps",
            'picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGBA")',
            'page = Image.new("RGBA", picture.size, "white")',
            'picture = Image.alpha_composite(page, picture).convert("RGB")',
            f"pixels = np.stack([ImageOps.fit(picture, {size}, Image.BILINEAR)]){axes}",
            'session = ort.InferenceSession("model.onnx")',
            f'feed = {{"{image.name}": pixels{scale}}}',
            f"{', '.join(names)} = session.run({json.dumps(names)}, feed){'' if known else '[0]'}",
            'labels = open("labels.txt", encoding="utf-8").read().splitlines()',
            f"print({label})" if known is None else
            f'print({label} if {known.output}[0] >= {known.threshold:.4g} else "none of these")',
        )
    )  # fmt: skip


def precisions(report: Report) -> list[dict[str, Any]]:
    """Return a row for each precision that was tried; none where there is nothing to compare."""
    rows = report.precisions.files
    if len(rows) < 2:
        return []
    bytes_full = max(row.bytes or 0 for row in rows)
    ratio_full = max(row.time_ratio or 0 for row in rows)
    return [
        {
            "name": PRECISIONS[row.precision],
            "file": row.file,
            "kept": row.kept,
            "verdict": _verdict(row),
            "reasons": row.reasons,
            "made": row.bytes is not None,
            "top1": figures.percent(row.top1),
            "top1_length": _length(row.top1, 100),
            "bytes": figures.UNKNOWN if row.bytes is None else figures.storage(row.bytes),
            "bytes_length": _length(row.bytes, bytes_full),
            "time": _time(row),
            "time_length": _length(row.time_ratio, ratio_full),
        }
        for row in rows
    ]


def contents(report: Report) -> dict[str, Any]:
    """Return the operators of the float32 file, and how much of it is not parameters."""
    whole, operators = report.bytes.onnx, report.operators
    return {
        "operators": list(operators.items()),
        "text": f"{sum(operators.values())} nodes of {len(operators)} operators; {figures.storage(whole)}, "
        f"{whole / report.bytes.parameters:.3f} times the bytes of its weights; no tensor has more than "
        f"{report.largest_rank} dimensions",
    }


def _length(value: float | None, full: float) -> float | None:
    """Return a bar's length in percent; what is unknown has no bar, not even a short one."""
    return None if value is None else figures.length(value, full)


def _time(row: PrecisionRecord) -> str:
    """Return the median of the float32 file, and of others the paired ratio to it, which medians may contradict."""
    if row.time_ratio is None or row.latency_ms is None:
        return figures.UNKNOWN
    if row.precision == "fp32":
        return f"{figures.significant(row.latency_ms.median)} ms"
    return f"{row.time_ratio:.2f} {figures.TIMES}"


def _verdict(row: PrecisionRecord) -> str:
    if not row.kept:
        return "dropped" if row.bytes is not None else "not made"
    return "kept" if row.passed else "kept as requested"
