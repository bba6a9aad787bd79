"""The tables of which networks of timm can be pruned."""

from __future__ import annotations

from typing import Any

from benchmarks.measurements.architectures import ALL, COMMON, HALF, HARD, family, latest
from benchmarks.records import Line, dirty_mark
from benchmarks.tables import markdown


def passes(result: dict[str, Any]) -> bool:
    """Return whether at least half of the multiply-adds of a network can be pruned."""
    return result.get("macs_share", 0) >= HALF


def summary() -> str:
    """Counts: networks of each list, families, ONNX files, seconds, and torch-pruning's own pruner beside them."""
    lines = {r["config"]["arch"]: r for r in latest()}
    other = {r["config"]["arch"]: r["result"] for r in latest("torch-pruning")}
    if not lines:
        return "No records yet."
    rows = []
    for title, names in (("refused before", HARD), ("common families", COMMON), ("all below", ALL)):
        found = [lines[n] for n in names if n in lines]
        results = [r["result"] for r in found]
        supported = [r for r in results if passes(r)]
        exported = [r for r in results if "macs_share" in r and "onnx_difference" in r]
        beside = [other[n] for n in names if n in other]
        slowest = max((r["check_s"] for r in results if "check_s" in r), default=0)
        rows.append([
            title + dirty_mark(found), f"{len(supported)} of {len(found)}",
            f"{len(exported)} of {sum('macs_share' in r for r in results)}", f"{slowest:.1f}",
            f"{sum(r.get('runs', False) for r in beside)} of {len(beside)}" if beside else "not run",
        ])  # fmt: skip
    families = {r["config"]["family"]: False for r in lines.values()}
    for line in lines.values():
        families[line["config"]["family"]] |= passes(line["result"])
    every_family = len({family(arch) for arch in ALL})
    tried = "" if len(families) == every_family else f", {every_family - len(families)} not run"
    rows.append(["families of timm", f"{sum(families.values())} of {every_family}{tried}", "", "", ""])
    head = ["networks", "half of the MACs or more", "ONNX file agrees", "slowest check, s", "torch-pruning runs"]
    return markdown(head, rows)


def every() -> str:
    """One row for each network."""
    if not latest():
        return "No records yet."
    head = ["family", "network", "px", "MACs", "parameters", "groups", "difference", "s", "ONNX"]
    lines = sorted(latest(), key=lambda r: (r["config"]["family"], r["config"]["arch"]))
    return markdown([*head, "what stays whole, or why"], map(_row, lines))


def _row(line: Line) -> list[object]:
    config, r = line["config"], line["result"]
    if "macs_share" not in r:
        return [config["family"], config["arch"], *[""] * 7, _short(r["failed"]) + dirty_mark([line])]
    onnx = f"{r['onnx_difference']:.0e}" if "onnx_difference" in r else "fails: " + _short(r.get("onnx_failed", ""))
    notes = [f"{r['refused']} groups: {_short(r['reason'])}"] if r["refused"] else []
    notes += ["no single linear classifier"] if r["head"] else []
    return [
        config["family"], config["arch"], r["pixels"], f"{r['macs_share']:.0%}", f"{r['params_share']:.0%}",
        r["groups"], f"{r['difference']:.0e}", r["check_s"], onnx, "; ".join(notes) + dirty_mark([line]),
    ]  # fmt: skip


def _short(reason: str) -> str:
    return reason.removesuffix("; use another base model").replace("|", "/").replace("\n", " ")[:110]
