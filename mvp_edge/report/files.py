"""What the page says of the delivered files: their precisions, their operators, and how few bytes are not weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mvp_edge.report import figures

PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "INT8"}


def precisions(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each precision that was tried; none where there is nothing to compare."""
    rows = (report.get("precisions") or {}).get("files", [])
    if len(rows) < 2:
        return []
    bytes_full = max((row["bytes"] or 0 for row in rows), default=0)
    ms_full = max((_median(row) or 0 for row in rows), default=0)
    source = (report.get("precisions") or {}).get("calibrated_on")
    return [
        {
            "calibrated_on": source if row["precision"] == "int8" and row["bytes"] else "",
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
            "ms": figures.UNKNOWN if _median(row) is None else f"{figures.significant(_median(row) or 0)} ms",
            "ms_length": _length(_median(row), ms_full),
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


def _median(row: Mapping[str, Any]) -> float | None:
    return row["latency_ms"]["median"] if row.get("latency_ms") else None


def _verdict(row: Mapping[str, Any]) -> str:
    if not row["kept"]:
        return "dropped"
    return "kept" if row["earned"] else "kept as asked"
