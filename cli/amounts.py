"""Budgets with units: `7M`, `1ms`, `200KiB`, `2.5MMACs`, `100kparams`; case does not matter."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import typer

from mvp_edge.config import Budget

from .options import checked

PREFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}  # m is mega: a multiply-add has no thousandths
UNITS = {"latency_ms": "ms", "macs": "MACs", "params": "params", "size_kib": "KiB"}
EXAMPLES = {
    "latency_ms": "0.5 or 0.5ms",
    "macs": "7500000, 7.5M or 7.5MMACs",
    "params": "100000, 100k or 100kparams",
    "size_kib": "300, 300KiB or 2MiB",
}
AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:(ms)|([kmg]?)(macs)|([kmg]?)(params)|(kib|mib))", re.IGNORECASE)


def limit(name: str) -> Callable[[str], float]:
    """Return the parser of one limit: a number with or without its unit."""

    def read(text: str) -> float:
        for each in (text, text + UNITS[name]):
            found = _amount(each)
            if found and found[0] == name:
                return _limited(text, found[1])
        try:
            value = float(text)
        except ValueError as e:
            raise typer.BadParameter(f"{text!r} is not a limit; write it as {EXAMPLES[name]}") from e
        return _limited(text, value)

    return read


def family(text: str, common: dict[str, float]) -> list[Budget]:
    """Read a comma-separated list of budgets, each of which keeps its spelling; each also has the limits in `common`.

    Raises:
        typer.BadParameter: one of them cannot be read, or limits what `common` limits.
    """
    budgets: list[Budget] = []
    for part in text.split(","):
        found = _amount(part)
        if found is None:
            raise typer.BadParameter(
                f"{part.strip()!r} is not a budget; write 1ms, 200KiB, 2MMACs or 100kparams, separated by commas"
            )
        name, value = found[0], _limited(part.strip(), found[1])
        if name in common:
            raise typer.BadParameter(
                f"{part.strip()!r} and --max-{name.replace('_', '-')} set the same limit; give one"
            )
        typed = {name: "".join(part.split())}
        budget = checked(lambda name=name, value=value, typed=typed: Budget(**{**common, name: value}, typed=typed))
        if budget in budgets:
            raise typer.BadParameter(f"{budget.label} is given twice")
        budgets.append(budget)
    return budgets


def _limited(text: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"{text!r} is not a limit; it must be above 0 and finite")
    return value


def _amount(text: str) -> tuple[str, float] | None:
    """Return what an amount limits, and the limit in the unit of its name; None if it cannot be read."""
    match = AMOUNT.fullmatch(text.strip())
    if match is None:
        return None
    number, ms, macs_prefix, macs, params_prefix, params, size = match.groups()
    if ms:
        return "latency_ms", float(number)
    if macs:
        return "macs", float(number) * PREFIX[macs_prefix.lower()]
    if params:
        return "params", float(number) * PREFIX[params_prefix.lower()]
    return "size_kib", float(number) * (1024 if size.lower() == "mib" else 1)
