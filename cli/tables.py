"""Results as tables on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from mvp_edge.core.words import in_short
from mvp_edge.report.figures import TIMES, gain, limited, percent, quantity, significant, storage, threads

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mvp_edge.models.support import Support
    from mvp_edge.report import FamilyReport, Report

    Rows = Iterator[tuple[str, RenderableType]]

BAR_WIDTH = 20
SHOWN_CLASSES = 6
PIPED_WIDTH = 120
WIDE = 90
OWN_TOP1 = "top-1 on its\nown classes"
SHOWN_NODES = 8
SHOWN_WARNINGS = 20
SHOWN_NAMES = 30
SHOWN_BASE_CLASSES = 3  # for a name
SCALES = {"wordnet": "WordNet similarity (1 is best)", "leep": "LEEP (0 is best)"}


def console() -> Console:
    """Return a console on stdout, wide enough for every table if it is a pipe."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def warn(warnings: Iterable[str]) -> None:
    """Show warnings on stderr."""
    err, found = Console(stderr=True, highlight=False, soft_wrap=True), list(warnings)
    for text in found[:SHOWN_WARNINGS]:
        err.print(f"[yellow]warning:[/] {escape(text)}")
    if len(found) > SHOWN_WARNINGS:
        err.print(f"[yellow]warning:[/] and {len(found) - SHOWN_WARNINGS} more; all of them with --json")


def bar(share: float) -> str:
    """Return a bar for a share in [0, 1]."""
    full = round(max(0.0, min(1.0, share)) * BAR_WIDTH)
    return f"[cyan]{'━' * full}[/][dim]{'─' * (BAR_WIDTH - full)}[/]"


def names(classes: Sequence[str]) -> str:
    """Return class names as one short text."""
    return escape(in_short(classes, SHOWN_CLASSES))


def name_in_words(classes: Sequence[str]) -> str:
    """Return the classes of the base that stand for a name, which with images there need not be."""
    if not classes:
        return "no class of the base, learned from the images"
    more = len(classes) - SHOWN_BASE_CLASSES
    if more <= SHOWN_BASE_CLASSES:
        return ", ".join(classes)
    return f"{', '.join(classes[:SHOWN_BASE_CLASSES])} and {more} more classes"


def member_in_words(member: dict[str, Any]) -> str:
    """Return the classes of a specialist, or the size of a generalist."""
    if member["kind"] == "generalist":
        return f"generalist, keep {member['keep']:g}, all {len(member['classes'])} classes"
    return names(member["classes"])


def show_report(report: Report) -> None:
    """Show the model that `prune` made."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    for title, cell in (*_accuracy_rows(report), *_cost_rows(report), *_choice_rows(report), *_origin_rows(report)):
        grid.add_row(title, cell)
    seconds = report.seconds
    stages = ", ".join(f"{k.replace('_', ' ')} {v:.1f}" for k, v in seconds.items() if k != "total" and v >= 0.05)
    if report.pictures is not None:
        grid.add_row("images", escape(report.pictures.summary))
    grid.add_row("seconds", f"{seconds['total']:.1f} [dim]({stages})[/]")
    grid.add_row("files", f"{escape(report.out)}: {' '.join(report.files)}")
    console().print(grid)


def _accuracy_rows(report: Report) -> Rows:
    yield "top-1", _accuracy_in_words(report)
    source = escape((report.accuracy if report.estimate is None else report.estimate).source)
    if (interval := report.accuracy.interval) is not None:
        source += f"; 95 % interval {interval[0]:.1f} to {interval[1]:.1f} %"
    yield "", f"[dim]{source}[/]"


def _cost_rows(report: Report) -> Rows:
    latency, onnx = report.latency_ms, report.bytes.onnx
    dense, pruned = latency.dense.median, latency.pruned.median
    yield "file", f"{storage(onnx)}, {gain(report.bytes.dense_onnx, onnx, 'smaller', 'larger')}"
    yield "MACs", f"{quantity(report.macs)}, {gain(report.base_macs, report.macs, 'fewer', 'more')}"
    yield (
        "latency",
        f"{significant(pruned)} ms (iqr {significant(latency.pruned.iqr, 2)}), "
        f"{gain(dense, pruned, 'faster', 'slower')} than {significant(dense)} ms, {threads(latency.threads)}",
    )
    for name, value in (report.budget or {}).items():
        used = value.achieved / value.limit
        figures = f"{limited(name, value.achieved)} of {limited(name, value.limit)}"
        yield "budget", f"{figures} ({percent(100 * used)}) {bar(used)}"


def _choice_rows(report: Report) -> Rows:
    """Yield what was decided on images: other precisions, the head, and how much of the training was kept."""
    for row in report.precisions.files[1:]:
        verdict = "[green]kept[/]" if row.kept else f"[yellow]{'not made' if row.bytes is None else 'dropped'}[/]"
        # Its time is among the reasons, as a ratio to that of the float32 file.
        measured = [] if row.top1 is None else [percent(row.top1)]
        measured += [] if row.bytes is None else [storage(row.bytes)]
        parts = [*([", ".join(measured)] if measured else []), *row.reasons]
        yield escape(row.precision), f"{verdict}: {escape('; '.join(parts))}"
    if (shown := report.photographs) is not None:
        if shown.head_top1 is not None:
            names_alone = "" if shown.names_top1 is None else f", names alone {percent(shown.names_top1)}"
            yield "head", f"{percent(shown.head_top1)} of {shown.held_out} held-out images{names_alone}"
        if shown.teacher is not None and shown.teacher_top1 is not None:
            yield "teacher", f"{escape(shown.teacher)}, its head {percent(shown.teacher_top1)} of the same images"
        yield "", f"[dim]{escape(shown.advice)}[/]"
    if chosen := report.interpolation:
        top1 = {row.weight: percent(row.top1) for row in chosen.held_out}
        kept = f"{100 * chosen.weight:.0f} % of the way" if chosen.weight > 0 else "tried, and not kept"
        yield (
            "fine-tuned",
            f"{kept}: balanced accuracy {top1[0.0]} before, {top1[chosen.weight or max(top1)]} after, on "
            f"{chosen.images} held-out images",
        )


def _origin_rows(report: Report) -> Rows:
    """Yield what the model was made of, what its names stand for, and what else there is."""
    if (body := report.body) is not None:
        kept = f", {percent(100 * report.keep.achieved)} of its units" if report.keep.achieved < 1 else ""
        yield "network", f"{escape(body.id)}: {body.pixels} pixels{kept}; {escape(report.base)} has {body.base_pixels}"
    else:
        yield "kept", f"{percent(100 * report.keep.achieved)} of the units of {escape(report.base)}"
    if (known := report.known) is not None:
        refused = f", {percent(100 * known.refused)} of {known.none} of none of these below" if known.none else ""
        yield (
            "none of these",
            f"output {known.output!r} below {known.threshold:.2f}; {percent(100 * known.kept)} of pictures of listed "
            f"classes are above{refused}",
        )
    for index, name in enumerate(report.names[:SHOWN_NAMES]):
        yield "" if index else "names", escape(f"{name.name}: {name_in_words(name.classes)}")
    if len(report.names) > SHOWN_NAMES:
        yield "", f"[dim]and {len(report.names) - SHOWN_NAMES} more, in report.json[/]"
    here = [v.id for v in report.voters]
    if others := [s for s in report.sizes if s.member not in here]:
        yield "other sizes", ", ".join(f"{percent(s.top1)} at {s.flag}" for s in others)
    if body is None:
        voters = Table.grid(padding=(0, 2))
        for voter in report.voters:
            voters.add_row(f"{voter.similarity:.2f}", member_in_words(voter.to_json()))
        scale = SCALES[report.settings.vote.similarity]
        yield "member" if report.origin == "ready-made" else "voters", f"[dim]nearest by {scale}[/]"
        yield "", voters


def _accuracy_in_words(report: Report) -> str:
    """Return the accuracy, that before fine-tuning, and that of the base."""
    score, base = report.accuracy, report.base_accuracy
    if report.estimate is not None:
        expected = report.estimate
        return f"about [bold green]{percent(expected.top1)}[/], base {percent(expected.base_top1)}"
    if score.top1 is None:
        return "unknown"
    text = f"[bold green]{percent(score.top1)}[/] of {score.n} test images"
    if score.top1_before is not None:
        text += f", before fine-tuning: {percent(score.top1_before)}"
    if base is None:
        return text
    if base.n != score.n:
        return f"{text}; on {base.n} of them {percent(base.model_top1)}, base {percent(base.top1)}"
    return f"{text}; base {percent(base.top1)}"


def show_family(index: FamilyReport) -> None:
    """Show a line for each model of a family; the Pareto front of accuracy and latency is marked."""
    from mvp_edge.report.family import expected

    table = Table("budget", "top-1", "latency", "file", "MACs", "kept", "", box=None, header_style="bold")
    for m in index.models:
        table.add_row(
            escape(m.directory), expected(m), f"{m.latency_ms:.3f} ms", f"{m.size_kib:.0f} KiB",
            quantity(m.macs), percent(100 * m.keep), "[green]best[/]" if "latency_ms" in m.front else "",
        )  # fmt: skip
    out = console()
    out.print(table)
    for source in dict.fromkeys(m.source for m in index.models if m.source):
        out.print(f"[dim]{escape(source)}[/]")
    if any("latency_ms" in m.front for m in index.models):
        out.print("[dim]best: no other model is both faster and more accurate[/]")
    out.print(f"[dim]{index.seconds['total']:.1f} s; compare them in {escape(index.out)}/index.html[/]")


def show_neighbours(result: dict[str, Any]) -> None:
    """Show the nearest members with their similarity, and the voters."""
    out, similarity, voters = console(), result["similarity"], result["voters"]
    wide = out.width >= WIDE
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("member", no_wrap=True)  # so that an id can be copied
    for header in (*(["kind"] if wide else []), "classes", similarity, *([""] if wide else []), OWN_TOP1):
        table.add_column(header, overflow="fold")
    for row in result["neighbours"]:
        value = row["similarity"]
        # LEEP is a mean log probability; its exponential is in [0, 1].
        filled = [bar(math.exp(value) if similarity == "leep" else value)] if wide else []
        kind = f"[green]{row['kind']}, votes[/]" if row["votes"] else row["kind"]
        member = [row["id"], kind] if wide else [f"{row['id']}\n{kind}"]
        table.add_row(*member, member_in_words(row), f"{value:.3f}", *filled, percent(row["top1"]))
    out.print(table)
    out.print(f"[dim]{SCALES[similarity]}[/]")
    if len(voters) == 1:
        out.print(f"[dim]{voters[0]} is the only voter in `prune`[/]")


def show_bench(result: dict[str, Any]) -> None:
    """Show latencies side by side; ratios are against the first model, with their quartiles over the rounds."""
    several, rows, out = len(result["threads"]) > 1, result["models"], console()
    columns = ["model", *(["threads"] if several else []), "median", "iqr", "p95", "vs. first", "file"]
    table = Table(*columns, *([] if several else [""]), box=None, header_style="bold")
    longest = max(m["latency_ms"]["median"] for m in rows)
    for index, model in enumerate(rows):
        ms = model["latency_ms"]
        table.add_row(
            escape(model["path"]), *([str(model["threads"])] if several else []), f"{ms['median']:.3f} ms",
            f"{ms['iqr']:.3f} ms", f"{ms['p95']:.3f} ms",
            versus(model["ratio"], model["ratio_quartiles"]) if index >= len(result["threads"]) else "",
            storage(model["bytes"]), *([] if several else [bar(ms["median"] / longest)]),
        )  # fmt: skip
    out.print(table)
    pinned = "pinned" if all(m["cpus"] for m in rows) else "not pinned"
    counts = " and ".join(map(str, result["threads"])) + f" thread{'s' * (result['threads'] != [1])}"
    clocks = " and ".join(sorted({m["clock"] for m in rows}))
    out.print(
        f"[dim]{result['runs']} runs of batch {result['batch']} each, in turns, {counts} {pinned}, {clocks} time[/]"
    )
    for profile in result.get("profiles", []):
        show_profile(profile)
    against_first = rows[len(result["threads"]) :]
    if any(m["ratio"] is not None and m["ratio_quartiles"] is None for m in against_first):
        warn(["these are too few runs for a range, so which is faster is not known; use more, such as --runs 160"])
    if any(m["ratio"] is None for m in rows):
        waited = max(m["waited"] for m in rows)
        warn([f"other programs took up to {100 * waited:.0f} % of the time; compare threads on an idle machine"])


def show_profile(profile: dict[str, Any]) -> None:
    """Show the time of one model by operator, then its slowest nodes."""
    out = console()
    out.print(f"\n[bold]{escape(profile['path'])}[/] [dim]{threads(profile['threads'])}, under the profiler[/]")
    table = Table("operator", "nodes", "time", "share", "", box=None, header_style="bold")
    for o in profile["operators"]:
        table.add_row(
            escape(o["operator"]),
            str(o["count"]),
            f"{o['median_us']:.0f} us",
            percent(100 * o["share"]),
            bar(o["share"]),
        )
    between = profile["between_us"]
    table.add_row("[dim]between operators[/]", "", f"[dim]{between:.0f} us[/]", "", "")
    out.print(table)
    slowest = sorted(profile["nodes"], key=lambda n: -n["median_us"])[:SHOWN_NODES]
    nodes = Table("slowest nodes", "operator", "output", "time", "share", "", box=None, header_style="bold")
    for n in slowest:
        nodes.add_row(
            escape(n["name"]), escape(n["operator"]), "x".join(map(str, n["output_shape"])), f"{n['median_us']:.0f} us",
            percent(100 * n["share"]), bar(n["share"] / slowest[0]["share"] if slowest[0]["share"] else 0.0),
        )  # fmt: skip
    out.print(nodes)


def compared(ratio: float | None, quartiles: Sequence[float] | None) -> str:
    """Return a ratio of times in words: "51.6 times faster", or "1.20 times the time" if its range does not decide."""
    if ratio is None:
        return "- (machine too busy)"
    if quartiles is None or quartiles[0] <= 1 <= quartiles[1]:
        return f"{significant(ratio)}{TIMES} the time"
    return gain(1, ratio, "faster", "slower", digits=3)


def versus(ratio: float | None, quartiles: Sequence[float] | None) -> str:
    """Return a ratio of times and its range in words: "51.6 times faster (51.2 to 52.0)"."""
    text = compared(ratio, quartiles)
    if ratio is None:
        return text
    if quartiles is None:
        return f"{text} (no range)"
    low, high = sorted(1 / q if text.endswith("faster") else q for q in quartiles)
    return f"{text} ({significant(low)} to {significant(high)})"


def short_paths(paths: Sequence[str]) -> list[str]:
    """Return paths without the directories that all of them share."""
    parts = [Path(p).absolute().parts for p in paths]
    shared = 0
    while all(len(p) > shared + 1 and p[shared] == parts[0][shared] for p in parts):
        shared += 1
    return ["/".join(p[shared:]) for p in parts]


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


def show_predictions(result: dict[str, Any]) -> None:
    """Show a line for each picture: the most likely class and its probability, or that it shows none of them."""
    picture = Column("picture", overflow="fold")  # so that a path can be copied
    table = Table(picture, "class", "probability", "", box=None, header_style="bold")
    for row in result["predictions"]:
        probability, name = row["probability"], escape(row["class"])
        if row["known"] is False:
            table.add_row(escape(row["file"]), f"[yellow]none of these[/] [dim](nearest: {name})[/]", "", "")
        else:
            table.add_row(escape(row["file"]), name, percent(100 * probability), bar(probability))
    console().print(table)
    warn(result["warnings"])


def show_zoos(zoos: Sequence[dict[str, Any]]) -> None:
    """Show a line for each zoo."""
    base, path = (Column(name, overflow="fold") for name in ("base", "directory"))  # so that they can be copied
    columns = ("zoo", base, "members", "generalists", "bodies", "mean top-1", "size", path)
    table = Table(*columns, box=None, header_style="bold")
    for zoo in zoos:
        table.add_row(
            escape(zoo["name"]),
            escape(zoo["base"]),
            str(zoo["members"]),
            str(zoo["generalist"]),
            str(zoo["bodies"]),
            percent(zoo["mean_top1"]),
            storage(zoo["bytes"]),
            escape(zoo["path"]),
        )
    console().print(table)


def show_bodies(bodies: Sequence[dict[str, Any]], expected: str, delivered: str = "") -> None:
    """Show a line for each ready-made body of a zoo, under what its expected accuracy is called."""
    table = Table("body", "pixels", "MACs", "parameters", expected, "", box=None, header_style="bold")
    for b in bodies:
        table.add_row(
            escape(b["id"]), str(b["pixels"]), quantity(b["macs"]), quantity(b["params"]), percent(b["expected_top1"]),
            "[green]delivered[/]" if b["id"] == delivered else "",
        )  # fmt: skip
    console().print(table)


def show_body(body: dict[str, Any]) -> None:
    """Show one body: its costs, what is expected of it by number of classes, and how it was made."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_row("id", escape(body["id"]))
    grid.add_row("pixels", str(body["pixels"]))
    grid.add_row("MACs", quantity(body["macs"]))
    grid.add_row("parameters", quantity(body["params"]))
    grid.add_row("top-1", ", ".join(f"{percent(top1)} of {n} classes" for n, top1 in body["curve"]))
    grid.add_row("files", escape(", ".join(body["sha256"])))
    grid.add_row("recipe", escape(", ".join(f"{k} {v}" for k, v in body["recipe"].items())))
    console().print(grid)


def show_members(members: Sequence[dict[str, Any]]) -> None:
    """Show a line for each member of a zoo."""
    table = Table("member", "classes", "kind", "kept", "top-1", "made by", box=None, header_style="bold")
    for m in members:
        table.add_row(
            m["id"], names(m["classes"]), m["kind"], percent(100 * m["achieved_keep"]), percent(m["top1"]),
            escape(str(m["method"])),
        )  # fmt: skip
    console().print(table)


def show_member(info: dict[str, Any]) -> None:
    """Show one member without its unit indices."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    for key in ("id", "kind"):
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
            escape(b["name"]), f"{height}x{width}", str(b["classes"] or "-"), percent(b["top1"]),
            escape(b["weights"] or "none, train them"), escape(b["licence"]),
        )  # fmt: skip
    console().print(table)
    console().print("[dim]and timm:NAME for networks of timm; mvp-edge bases --check timm:NAME tries one[/]")


def show_support(support: Support) -> None:
    """Show what of a network can be pruned."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    height, width = support.input_size
    grid.add_row("network", f"{escape(support.arch)}, tried at {height}x{width} with random weights")
    grid.add_row("prunable", f"{support.macs_share:.0%} of multiply-adds, {support.params_share:.0%} of parameters")
    grid.add_row("groups", f"{support.groups} of coupled units; slicing equals masking to {support.difference:.0e}")
    if support.refused:
        reason = next(iter(support.refused.values()))
        grid.add_row("refused", escape(f"{len(support.refused)} groups stay whole: {reason}"))
    if support.whole:
        each = (1 - support.macs_share) / sum(support.whole.values())  # of all multiply-adds
        first = [f"{name} {n * each:.1%}" for name, n in list(support.whole.items())[:SHOWN_NODES]]
        grid.add_row("whole layers", escape(", ".join(first)))
    grid.add_row("classifier", escape(support.head or "linear: can be cut to any of its classes"))
    console().print(grid)


def show_export(made: dict[str, Any]) -> None:
    """Show the files of a deploy folder, and which providers may run them."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_row("folder", escape(made["out"]))
    files = Table.grid(padding=(0, 2))
    for file in made["files"]:
        files.add_row(escape(file["name"]), storage(file["bytes"]))
    grid.add_row("files", files)
    worst = max(made["max_abs_diff"].values(), default=None)
    text = "the specification; the model runs on Apple's systems only, and did not here"
    if worst is not None:
        text = f"logits of these models and the result's differ by {worst:.1e} at most"
    grid.add_row("checked", text)
    console().print(grid)
    for precision, rows in made["providers"].items():
        table = Table(f"provider ({precision})", "nodes", "partitions", "worth a try", "source", box=None)
        for row in rows:
            nodes = f"{row['supported']} of {row['nodes']}"
            table.add_row(row["provider"], nodes, str(row["partitions"]), row["verdict"] or "-", row["basis"])
        console().print(table)
    if made["providers"]:
        console().print(
            "[dim]eligibility by operators, not latency: nothing was run on a phone; see README.md there[/]"
        )


def show_data(result: dict[str, Any], sheet: Path | None) -> None:
    """Show the images of a data set by class and split, what is not used, and where their contact sheet is, if any."""
    splits = [s for s in ("train", "val", "test") if any(s in counts for counts in result["classes"].values())]
    table = Table("class", *splits, box=None, header_style="bold")
    for name, counts in result["classes"].items():
        table.add_row(escape(name), *(f"{counts.get(split, 0):,}" for split in splits))
    out = console()
    out.print(table)
    out.print(escape(result["summary"]))
    if result["sizes"]:
        small, middle, large = (f"{width} x {height}" for width, height in result["sizes"])
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in result["formats"].items())
        out.print(f"{kinds}; {small} to {large} pixels, median {middle}")
    if result["coarse"] is not None:
        out.print(f"thumbnails of 8 x 8 pixels: balanced accuracy {result['coarse']:.1f} % with a linear classifier")
    for path, reason in result["unreadable"][:SHOWN_NODES]:
        out.print(f"[yellow]cannot be read:[/] {escape(path)} ({escape(reason)})")
    if (more := len(result["unreadable"]) - SHOWN_NODES) > 0:
        out.print(f"[dim]and {more:,} more that cannot be read[/]")
    if result["copies"]:
        images = "image is a copy" if result["copies"] == 1 else "images are copies"
        out.print(f"{result['copies']:,} {images}, or nearly, of another one")
    for one, other in result["copied"][:SHOWN_NODES]:
        out.print(f"[dim]{escape(one)} = {escape(other)}[/]")
    if (more := result["copies"] - SHOWN_NODES) > 0:
        out.print(f"[dim]and {more:,} more copies[/]")
    if sheet is not None:
        out.print(f"contact sheet: {escape(str(sheet))}")
    warn(result["warnings"])
