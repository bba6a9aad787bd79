"""`mvp-edge bench`: latency of ONNX models, compared, and time by operator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json, machine_option, output_option, print_json

if TYPE_CHECKING:
    from mvp_edge.timing.latency import Timing
    from mvp_edge.timing.profiling import Profile

RUNS_PER_ROUND = 20

EPILOG = """
[bold]Examples[/]

mvp-edge bench out/model.onnx --profile

mvp-edge bench dense.onnx --vs out/model.onnx --vs out/model-int8.onnx

mvp-edge bench a.onnx b.onnx --threads 1 --threads 2 --plot latency.svg
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("bench", epilog=EPILOG)(bench)


def bench(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL.onnx...", help="Models to measure; the first is the reference."),
    ],
    vs: Annotated[
        list[Path] | None, typer.Option("--vs", metavar="OTHER.onnx", help="Another model; repeat for more.")
    ] = None,
    threads: Annotated[
        list[int] | None, machine_option("--threads", min=1, help="CPU threads; repeat for more. Default: 1.")
    ] = None,
    runs: Annotated[int, machine_option("--runs", min=1, help="Measured calls per model.")] = 160,
    batch: Annotated[int, machine_option("--batch", min=1, help="Images per call.")] = 1,
    profile: Annotated[bool, output_option("--profile", help="Show the time by operator.")] = False,
    plot: Annotated[
        Path | None, output_option("--plot", metavar="FILE.svg|png", help="Draw a bar plot; needs matplotlib.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure the latency of ONNX models on this machine, in turns, with ONNX Runtime on the CPU."""
    from mvp_edge.timing.latency import Contender, time_in_turns
    from mvp_edge.timing.plot import check_format

    if plot is not None:
        check_format(plot)
    paths, counts = [*models, *(vs or [])], sorted(set(threads or [1]))
    per_round = min(runs, RUNS_PER_ROUND)
    timings = time_in_turns(
        [Contender(path, count) for path in paths for count in counts],
        rounds=-(-runs // per_round),
        runs_per_round=per_round,
        batch=batch,
        budget_s=float("inf"),
    )
    result = _result(timings, counts, batch)
    if profile:
        from mvp_edge.timing.profiling import profile_model

        result["profiles"] = [
            {"path": str(path), "threads": counts[0], **_profile(profile_model(path, counts[0], batch))}
            for path in paths
        ]
    if plot is not None:
        _draw(result, plot)
    if json:
        print_json(result)
    else:
        from .tables import show_bench

        show_bench(result)


def _result(timings: Sequence[Timing], counts: Sequence[int], batch: int) -> dict[str, Any]:
    # Reference: the first model with as many threads, because one thread and several are timed by different clocks.
    first = {t.contender.threads: t for t in reversed(timings)}
    rows = []
    for timing in timings:
        latency, ratio = timing.latency(), timing.ratio_to(first[timing.contender.threads])
        rows.append(
            {
                "path": str(timing.contender.path),
                "bytes": timing.contender.path.stat().st_size,
                "threads": latency.threads,
                "cpus": list(timing.cpus),
                "latency_ms": latency.to_json(),
                "clock": latency.clock,
                "waited": round(latency.waited, 3),
                "ratio": ratio and round(ratio.median, 4),
                "ratio_quartiles": ratio and ratio.quartiles and [round(q, 4) for q in ratio.quartiles],
            }
        )
    return {"models": rows, "runs": timings[0].times_ms.size, "threads": list(counts), "batch": batch}


def _profile(found: Profile) -> dict[str, Any]:
    return {
        "operators_us": found.operators_us,
        "between_us": round(found.between_us, 1),
        "runs": found.runs,
        "operators": [
            {"operator": o.operator, "count": o.count, "median_us": o.median_us, "share": round(o.share, 4)}
            for o in found.operators
        ],
        "nodes": [
            {
                "name": n.name,
                "operator": n.operator,
                "median_us": n.median_us,
                "share": round(n.share, 4),
                "output_shape": list(n.output_shape),
            }
            for n in found.nodes
        ],
    }


def _draw(result: dict[str, Any], path: Path) -> None:
    from mvp_edge.timing.plot import LatencyBar, plot_latencies

    from .tables import compared, short_paths

    names = short_paths([row["path"] for row in result["models"]])
    bars = [
        LatencyBar(
            name,
            row["threads"],
            row["latency_ms"]["median"],
            row["latency_ms"]["iqr"],
            compared(row["ratio"], row["ratio_quartiles"]) if index >= len(result["threads"]) else "",
        )
        for index, (name, row) in enumerate(zip(names, result["models"], strict=True))
    ]
    plot_latencies(bars, path, f"ONNX Runtime on the CPU, batch {result['batch']}")
