"""Budgets as people type them: `7M`, `1ms`, `200KiB`, `2.5MMACs`, `100kparams`."""

from __future__ import annotations

import re

import typer

from mvp_edge.config import Budget

from .options import checked

PREFIX = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"


def count(text: str) -> float:
    """Read a large count with an optional prefix k, M or G; any other number as Python does."""
    if match := re.fullmatch(NUMBER + r"\s*([kMG]?)", text.strip()):
        return float(match[1]) * PREFIX[match[2]]
    try:
        return float(text)
    except ValueError as e:
        raise typer.BadParameter(f"{text!r} is no count; write it as 7500000, 7500k or 7.5M") from e


def family(text: str, common: dict[str, float]) -> list[Budget]:
    """Read a comma-separated list of budgets; each also keeps the limits in `common`.

    Raises:
        typer.BadParameter: one of them cannot be read, or limits what `common` limits.
    """
    budgets = []
    for part in text.split(","):
        name, value = _limit(part)
        if name in common:
            raise typer.BadParameter(f"{part.strip()!r} and --max-{name.replace('_', '-')} limit the same; give one")
        budgets.append(checked(lambda name=name, value=value: Budget(**{**common, name: value})))
    labels = [b.label for b in budgets]
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise typer.BadParameter(f"{', '.join(sorted(twice))} is given twice")
    return budgets


def _limit(part: str) -> tuple[str, float]:
    if match := re.fullmatch(NUMBER + r"\s*(?:(ms)|([kMG]?)(MACs)|([kMG]?)(params)|(KiB|MiB))", part.strip()):
        number, ms, macs_prefix, macs, params_prefix, params, size = match.groups()
        if ms:
            return "latency_ms", float(number)
        if macs:
            return "macs", float(number) * PREFIX[macs_prefix]
        if params:
            return "params", float(number) * PREFIX[params_prefix]
        return "size_kib", float(number) * (1024 if size == "MiB" else 1)
    raise typer.BadParameter(
        f"{part.strip()!r} is no budget; write 1ms, 200KiB, 2MMACs or 100kparams, separated by commas"
    )
