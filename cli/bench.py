"""`mvp-edge bench`: how long ONNX models take, one against the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import MACHINE, Json, print_json

RUNS_PER_ROUND = 20

EPILOG = """
[bold]Examples[/]

mvp-edge bench out/model.onnx

mvp-edge bench out/model.onnx --vs other/model.onnx --vs third.onnx --threads 2
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("bench", epilog=EPILOG)(bench)


def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model that the others are compared with.")],
    vs: Annotated[
        list[Path] | None, typer.Option("--vs", metavar="OTHER.onnx", help="A model to compare; repeat for more.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.", rich_help_panel=MACHINE)] = 1,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Timed calls of each.", rich_help_panel=MACHINE)] = 160,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images a call.", rich_help_panel=MACHINE)] = 1,
    json: Json = False,
) -> None:
    """Time ONNX models on this machine, in turns, with ONNX Runtime on the CPU."""
    from mvp_edge.latency import compare_latency

    paths = [model, *(vs or [])]
    per_round = min(runs, RUNS_PER_ROUND)
    found = compare_latency(
        paths, threads, rounds=-(-runs // per_round), runs_per_round=per_round, batch=batch, budget_s=float("inf")
    )
    result = {
        "models": [
            {
                "path": str(path),
                "bytes": path.stat().st_size,
                "latency_ms": latency.to_json(),
                "ratio": round(latency.median_ms / found[0].median_ms, 4),
            }
            for path, latency in zip(paths, found, strict=True)
        ],
        "runs": found[0].runs,
        "threads": threads,
        "batch": batch,
    }
    if json:
        print_json(result)
    else:
        from .tables import show_bench

        show_bench(result)
