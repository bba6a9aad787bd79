"""What the page says of the delivered files: how to use them, precisions, operators, how few bytes are not weights."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from mvp_edge.report import figures

PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "INT8"}
TARGETS = ("android", "ios", "web")


def usage(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what an app must know to run `model.onnx`: facts, lines of Python, and how to go on to a device.

    None for a report that does not tell what the file takes.
    """
    interface = report.get("interface")
    if not interface:
        return None
    image, output = interface["input"], interface["output"]
    low, high = image["range"]
    shape = " x ".join(str(side or 1) for side in image["shape"])
    kept = [row["file"] for row in (report.get("precisions") or {}).get("files", [])[1:] if row["kept"]]
    return {
        "facts": [
            ("File", "model.onnx" + (f"; {', '.join(kept)} takes and gives the same" if kept else "")),
            ("Input", f"{image['name']}: {image['dtype']}, {shape} ({image['layout']}), or more pictures at once"),
            ("Pixels", f"raw {image['channels']} from {low:g} to {high:g}; the model normalises them itself"),
            ("Output", f"{output['name']}: {output['shape'][-1]} numbers in the order of labels.txt; softmax them"),
        ],
        "python": _python(image, output),
        "export": f"mvp-edge export {shlex.quote(report.get('out', 'out'))} --target {TARGETS[0]}",
        "targets": TARGETS[1:],
    }


def _python(image: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    """Return lines short enough for the page that say what is on a picture."""
    size = f"({image['width']}, {image['height']})"
    axes = ".transpose(0, 3, 1, 2)" if image["layout"] == "NCHW" else ""
    scale = "" if image["dtype"] == "uint8" else " / np.float32(255)"
    run = f'run(["{output["name"]}"], {{"{image["name"]}": pixels{scale}}})[0]'
    return "\n".join(
        (
            "import numpy as np, onnxruntime as ort",
            "from PIL import Image, ImageOps",
            'picture = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")',
            f"pixels = np.stack([ImageOps.fit(picture, {size}, Image.BILINEAR)]){axes}",
            'session = ort.InferenceSession("model.onnx")',
            f"logits = session.{run}",
            'print(open("labels.txt", encoding="utf-8").read().splitlines()[logits.argmax()])',
        )
    )


def precisions(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each precision that was tried; none where there is nothing to compare."""
    rows = (report.get("precisions") or {}).get("files", [])
    if len(rows) < 2:
        return []
    bytes_full = max((row["bytes"] or 0 for row in rows), default=0)
    ratio_full = max((row["time_ratio"] or 0 for row in rows), default=0)
    return [
        {
            "name": PRECISIONS.get(row["precision"], row["precision"]),
            "file": row["file"],
            "kept": row["kept"],
            "verdict": _verdict(row),
            "reasons": row["reasons"],
            "made": row["bytes"] is not None,
            "top1": figures.percent(row["top1"]),
            "top1_length": _length(row["top1"], 100),
            "bytes": figures.UNKNOWN if row["bytes"] is None else figures.storage(row["bytes"]),
            "bytes_length": _length(row["bytes"], bytes_full),
            "time": _time(row),
            "time_length": _length(row["time_ratio"], ratio_full),
        }
        for row in rows
    ]


def contents(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the operators of the float32 file and what it holds beside its parameters."""
    operators = report.get("operators")
    if not operators:
        return None
    whole, parameters = report["bytes"]["onnx"], report["bytes"].get("parameters")
    text = f"{sum(operators.values())} nodes of {len(operators)} operators"
    if parameters:
        text += f"; {figures.storage(whole)}, {whole / parameters:.3f} times the bytes of its weights"
    if (rank := report.get("largest_rank")) is not None:
        text += f"; no tensor has more than {rank} dimensions"
    return {"operators": list(operators.items()), "text": text}


def _length(value: float | None, full: float) -> float | None:
    """Return a bar's length in percent; what is unknown has no bar, not even a short one."""
    return None if value is None else figures.length(value, full)


def _time(row: Mapping[str, Any]) -> str:
    """Return the median of the float32 file, and of others the paired ratio to it: medians alone may say otherwise."""
    if row["time_ratio"] is None:
        return figures.UNKNOWN
    if row["precision"] == "fp32":
        return f"{figures.significant(row['latency_ms']['median'])} ms"
    return f"{row['time_ratio']:.2f} {figures.TIMES}"


def _verdict(row: Mapping[str, Any]) -> str:
    if not row["kept"]:
        return "dropped" if row["bytes"] is not None else "not made"
    return "kept" if row["earned"] else "kept as asked"
