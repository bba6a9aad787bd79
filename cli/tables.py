"""How results look on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

BAR_WIDTH = 20
SHOWN_CLASSES = 6
PIPED_WIDTH = 120


def console() -> Console:
    """Return stdout; a pipe gets lines wide enough for every table."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def warn(warnings: Iterable[str]) -> None:
    """Show warnings on stderr."""
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    for text in warnings:
        err.print(f"[yellow]warning:[/] {escape(text)}")


def bar(share: float) -> str:
    """Return a bar for a share in [0, 1]."""
    full = round(max(0.0, min(1.0, share)) * BAR_WIDTH)
    return f"[cyan]{'━' * full}[/][dim]{'─' * (BAR_WIDTH - full)}[/]"


def names(classes: Sequence[str]) -> str:
    """Return class names as one short text."""
    more = f", and {len(classes) - SHOWN_CLASSES} more" if len(classes) > SHOWN_CLASSES else ""
    return escape(", ".join(classes[:SHOWN_CLASSES])) + more


def size(count: float) -> str:
    """Return a number of bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def amount(count: float) -> str:
    """Return a large count with a decimal prefix."""
    for prefix in ("", "k", "M"):
        if count < 1000:
            return f"{count:.3g}{prefix and ' ' + prefix}"
        count /= 1000
    return f"{count:.3g} G"


def percent(value: float | None) -> str:
    """Return a percentage, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.1f} %"


def times(before: float, after: float) -> str:
    """Return how many times less `after` is than `before`."""
    return f"{before / after:.1f}x" if after > 0 else "-"


def show_report(report: dict[str, Any]) -> None:
    """Show what `prune` made."""
    score, latency, seconds, out = report["accuracy"], report["latency_ms"], report["seconds"], console()
    dense, pruned = latency["dense"], latency["pruned"]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_row("top-1", f"[bold green]{percent(score['top1'])}[/] of {score['n']} test images")
    grid.add_row("", f"[dim]{escape(score['source'])}[/]")
    onnx, dense_onnx = report["bytes"]["onnx"], report["bytes"].get("dense_onnx")
    grid.add_row("file", size(onnx) + (f", {times(dense_onnx, onnx)} smaller" if dense_onnx else ""))
    grid.add_row("MACs", f"{amount(report['macs'])}, {times(report['base_macs'], report['macs'])} fewer")
    grid.add_row(
        "latency",
        f"{pruned['median']:.2f} ms (iqr {pruned['iqr']:.2f}), {times(dense['median'], pruned['median'])} faster "
        f"than {dense['median']:.2f} ms, {threads(latency['threads'])}",
    )
    for name, value in (report.get("budget") or {}).items():
        share = value["achieved"] / value["limit"]
        grid.add_row(
            "budget",
            f"{limit(name, value['achieved'])} of {limit(name, value['limit'])} ({100 * share:.0f} %) {bar(share)}",
        )
    grid.add_row("kept", f"{100 * report['keep']['achieved']:.1f} % of the units of {escape(report['base'])}")
    voters = Table.grid(padding=(0, 2))
    for neighbour in report["neighbours"]:
        voters.add_row(f"{neighbour['similarity']:.2f}", names(neighbour["classes"]))
    grid.add_row("voters", voters)
    stages = ", ".join(f"{k.replace('_', ' ')} {v:.1f}" for k, v in seconds.items() if k != "total" and v >= 0.05)
    grid.add_row("seconds", f"{seconds['total']:.1f} [dim]({stages})[/]")
    grid.add_row("files", f"{escape(report['out'])}: {' '.join(report['files'])}")
    out.print(grid)
    warn(report["warnings"])


def limit(name: str, value: float) -> str:
    """Return a figure that a budget can limit, with its unit."""
    if name == "latency_ms":
        return f"{value:.3g} ms"
    return f"{value:.4g} KiB" if name == "size_kib" else f"{amount(value)} {'MACs' if name == 'macs' else 'parameters'}"


def show_family(index: dict[str, Any]) -> None:
    """Show a line for each model of a family; those that no other beats in both accuracy and latency are marked."""
    table = Table("budget", "top-1", "latency", "file", "MACs", "kept", "", box=None, header_style="bold")
    for m in index["models"]:
        table.add_row(
            escape(m["directory"]), percent(m["top1"]), f"{m['latency_ms']:.3f} ms", f"{m['size_kib']:.0f} KiB",
            amount(m["macs"]), f"{100 * m['keep']:.1f} %", "[green]best[/]" if "latency_ms" in m["front"] else "",
        )  # fmt: skip
    out = console()
    out.print(table)
    out.print(f"[dim]{index['seconds']['total']:.1f} s; compare them in {escape(index['out'])}/index.html[/]")


def threads(count: int) -> str:
    """Return a number of threads in words."""
    return f"{count} thread{'s' * (count != 1)}"


def show_neighbours(rows: Sequence[dict[str, Any]], similarity: str) -> None:
    """Show the nearest tasks with bars that fill from the farthest to the nearest possible."""
    table = Table("member", "classes", similarity, "", "top-1", box=None, header_style="bold")
    for row in rows:
        value = row["similarity"]
        # LEEP is a mean log probability: its exponential is a share, 1 for a member that tells the classes apart.
        table.add_row(
            row["id"], names(row["classes"]), f"{value:.3f}", bar(math.exp(value) if similarity == "leep" else value),
            percent(row["top1"]),
        )  # fmt: skip
    console().print(table)


def show_bench(result: dict[str, Any]) -> None:
    """Show latencies side by side; ratios are against the first model."""
    table = Table("model", "median", "iqr", "p95", "ratio", "file", box=None, header_style="bold")
    for model in result["models"]:
        ms = model["latency_ms"]
        table.add_row(
            escape(model["path"]), f"{ms['median']:.3f} ms", f"{ms['iqr']:.3f} ms", f"{ms['p95']:.3f} ms",
            f"{model['ratio']:.2f}x", size(model["bytes"]),
        )  # fmt: skip
    console().print(table)
    console().print(
        f"[dim]{result['runs']} runs of batch {result['batch']} each, in turns, {threads(result['threads'])}[/]"
    )


def show_accuracy(result: dict[str, Any]) -> None:
    """Show top-1 over all and by class."""
    score = result["accuracy"]
    table = Table("class", "top-1", "", box=None, header_style="bold")
    for name, value in score["per_class"].items():
        table.add_row(escape(name), percent(value), "" if value is None else bar(value / 100))
    out = console()
    out.print(
        f"[bold]top-1[/] [bold green]{percent(score['top1'])}[/] of {score['n']} images ({escape(score['source'])})"
    )
    out.print(table)
    warn(result["warnings"])


def show_zoos(zoos: Sequence[dict[str, Any]]) -> None:
    """Show a line for each zoo."""
    table = Table(
        "zoo", "base", "members", "broad", "mean top-1", "exemplars", "size", "directory", box=None, header_style="bold"
    )
    for zoo in zoos:
        table.add_row(
            escape(zoo["name"]), escape(zoo["base"]), str(zoo["members"]), str(zoo["broad"]), percent(zoo["mean_top1"]),
            str(zoo["exemplars"]), size(zoo["bytes"]), escape(zoo["path"]),
        )  # fmt: skip
    console().print(table)


def show_members(members: Sequence[dict[str, Any]]) -> None:
    """Show a line for each member of a zoo."""
    table = Table("member", "classes", "breadth", "kept", "top-1", "made by", box=None, header_style="bold")
    for m in members:
        table.add_row(
            m["id"], names(m["classes"]), m["breadth"], f"{100 * m['achieved_keep']:.1f} %", percent(m["top1"]),
            escape(str(m["method"])),
        )  # fmt: skip
    console().print(table)


def show_member(info: dict[str, Any]) -> None:
    """Show all of one member but its unit indices."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    for key in ("id", "breadth"):
        grid.add_row(key, escape(info[key]))
    grid.add_row("top-1", percent(info["top1"]))
    grid.add_row("classes", escape(", ".join(c["name"] for c in info["classes"])))
    grid.add_row("recipe", escape(", ".join(f"{k} {v}" for k, v in info["recipe"].items())))
    groups = Table("group", "kept", "of", "", box=None, header_style="bold")
    for g in info["plan"]["groups"]:
        groups.add_row(escape(g["name"]), str(g["count"]), str(g["width"]), bar(g["count"] / g["width"]))
    grid.add_row("groups", groups)
    console().print(grid)


def show_bases(bases: Sequence[dict[str, Any]]) -> None:
    """Show the registered base models."""
    table = Table("base", "input", "classes", "top-1", "weights", "licence", box=None, header_style="bold")
    for b in bases:
        height, width = b["input_size"]
        table.add_row(
            escape(b["name"]), f"{height}x{width}", str(b["classes"]), percent(b["top1"]), escape(b["weights"] or "-"),
            escape(b["licence"]),
        )  # fmt: skip
    console().print(table)
    console().print("[dim]and timm:NAME for any convolutional network of timm, such as timm:mobilenetv2_100[/]")
