"""`mvp-edge prune`: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from mvp_edge.config import InputFormat, Precision, PruneConfig, Vote

from .options import (
    OUTPUT,
    TRAINING,
    VOTING,
    Align,
    BatchSize,
    Device,
    Force,
    Json,
    Keep,
    LearningRate,
    OptionalData,
    Quiet,
    Seed,
    Similarity,
    Task,
    Threads,
    Voters,
    ZooName,
    checked,
)
from .progress import shown

DEFAULT = PruneConfig(task=Path("classes.txt"), data=None)

EPILOG = """
[bold]Examples[/]

mvp-edge prune --task classes.txt --data photos/

mvp-edge prune --task classes.txt --data cifar100 --keep 0.2 --out small --force

mvp-edge prune --task classes.txt --data photos/ --json > report.json
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("prune", epilog=EPILOG)(prune)


def prune(
    task: Task,
    data: OptionalData = None,
    zoo: ZooName = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the result goes.", rich_help_panel=OUTPUT)
    ] = DEFAULT.out,
    force: Force = DEFAULT.force,
    add_to_zoo: Annotated[
        bool, typer.Option("--add-to-zoo", help="Let the zoo grow by this model.", rich_help_panel=OUTPUT)
    ] = DEFAULT.add_to_zoo,
    precision: Annotated[
        Precision,
        typer.Option(
            "--precision",
            help="Beside the float32 file: nothing (fp32), fp16, int8, or int8 if it earns its place (auto).",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULT.precision,
    input_format: Annotated[
        InputFormat,
        typer.Option(
            "--input",
            help="What the file takes: RGB in [0, 1], or raw bytes with colours last.",
            rich_help_panel=OUTPUT,
        ),
    ] = DEFAULT.input,
    keep: Keep = DEFAULT.vote.keep,
    align: Align = DEFAULT.vote.align,
    neighbours: Annotated[
        int, typer.Option("--neighbours", help="How many of the nearest tasks vote.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.neighbours,
    similarity: Similarity = DEFAULT.vote.similarity,
    voters: Voters = DEFAULT.vote.voters,
    vote: Annotated[
        Vote, typer.Option("--vote", help="Most votes win, or draw by votes.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.vote,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of --vote sample, above 0.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.temperature,
    iterations: Annotated[
        int, typer.Option("--iterations", help="Fine-tuning steps; 0 = none.", rich_help_panel=TRAINING)
    ] = DEFAULT.fit.iterations,
    batch_size: BatchSize = DEFAULT.fit.batch_size,
    lr: LearningRate = DEFAULT.fit.lr,
    distill: Annotated[
        float, typer.Option("--distill", help="Weight of distillation, in [0, 1].", rich_help_panel=TRAINING)
    ] = DEFAULT.fit.distill,
    device: Device = DEFAULT.device,
    threads: Threads = None,
    seed: Seed = DEFAULT.seed,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a compact model for the classes of a list: ONNX file, labels, plan, weights and report."""
    config = PruneConfig(
        task=task,
        data=data,
        out=out,
        force=force,
        zoo=zoo,
        vote=checked(
            lambda: replace(
                DEFAULT.vote,
                keep=keep,
                align=align,
                neighbours=neighbours,
                similarity=similarity,
                voters=voters,
                vote=vote,
                temperature=temperature,
            )
        ),
        fit=checked(lambda: replace(DEFAULT.fit, iterations=iterations, batch_size=batch_size, lr=lr, distill=distill)),
        device=device,
        seed=seed,
        add_to_zoo=add_to_zoo,
        input=input_format,
        precision=precision,
    )
    from mvp_edge.pipeline import compress
    from mvp_edge.runtime import use_threads

    use_threads(threads)
    with shown(quiet=quiet) as progress:
        report = compress(config, progress)
    from .tables import show_report, warn

    if json:
        typer.echo((out / "report.json").read_text(encoding="utf-8"), nl=False)
        warn(report["warnings"])
    else:
        show_report(report)
