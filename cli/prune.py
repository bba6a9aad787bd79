"""`mvp-edge prune`: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mvp_edge.config import Align, Budget, Method, PruneConfig, Similarity, Vote, Voters

from .amounts import count, family
from .options import (
    BUDGET,
    INPUT,
    OUTPUT,
    TRAINING,
    VOTING,
    Device,
    Json,
    Quiet,
    Seed,
    Task,
    ZooName,
    checked,
)
from .progress import shown

DEFAULT = PruneConfig(task=Path("classes.txt"), data=None)

EPILOG = """
[bold]Examples[/]

mvp-edge prune --task classes.txt --data photos/

mvp-edge prune --task classes.txt --data cifar100 --keep 0.2 --out small --force

mvp-edge prune --task classes.txt --data photos/ --max-latency-ms 0.5 --max-size-kib 300

mvp-edge prune --task classes.txt --data photos/ --budgets 0.25ms,0.5ms,1ms --out family

mvp-edge prune --task classes.txt --data photos/ --json > report.json
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("prune", epilog=EPILOG)(prune)


def lane(value: Any) -> Align:
    """Read a number of channels or `auto`."""
    if value == "auto":
        return "auto"
    try:
        return int(value)
    except ValueError as e:
        raise typer.BadParameter(f"{value!r} is neither a whole number nor auto") from e


def prune(
    context: typer.Context,
    task: Task,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DIR|NAME",
            help="Images: DIR/{train,test}/CLASS/*, DIR/CLASS/*, or a set such as cifar100.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    zoo: ZooName = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the result goes.", rich_help_panel=OUTPUT)
    ] = DEFAULT.out,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a result that is there.", rich_help_panel=OUTPUT)
    ] = DEFAULT.force,
    add_to_zoo: Annotated[
        bool, typer.Option("--add-to-zoo", help="Let the zoo grow by this model.", rich_help_panel=OUTPUT)
    ] = DEFAULT.add_to_zoo,
    keep: Annotated[
        float, typer.Option("--keep", help="Fraction of the units to keep, in (0, 1].", rich_help_panel=BUDGET)
    ] = DEFAULT.vote.keep,
    max_latency_ms: Annotated[
        float | None,
        typer.Option("--max-latency-ms", help="On this machine, one thread.", rich_help_panel=BUDGET),
    ] = None,
    max_macs: Annotated[
        float | None,
        typer.Option("--max-macs", metavar="COUNT", parser=count, help="Such as 7.5M.", rich_help_panel=BUDGET),
    ] = None,
    max_params: Annotated[
        float | None,
        typer.Option("--max-params", metavar="COUNT", parser=count, help="Such as 100k.", rich_help_panel=BUDGET),
    ] = None,
    max_size_kib: Annotated[
        float | None, typer.Option("--max-size-kib", help="Of model.onnx.", rich_help_panel=BUDGET)
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            "--budgets", metavar="LIST", help="One model each, such as 0.2ms,0.5ms,1ms.", rich_help_panel=BUDGET
        ),
    ] = None,
    align: Annotated[
        Any,
        typer.Option(
            "--align",
            metavar="N|auto",
            parser=lane,
            help="Kept counts are multiples of this; 1 = any; auto = fill what costs no time here.",
            rich_help_panel=BUDGET,
        ),
    ] = DEFAULT.vote.align,
    method: Annotated[
        Method, typer.Option("--method", help="mvp: units by group. smsp: over all at once.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.method,
    neighbours: Annotated[
        int, typer.Option("--neighbours", help="How many of the nearest tasks vote.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.neighbours,
    similarity: Annotated[
        Similarity, typer.Option("--similarity", help="Nearest by images or by words.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.similarity,
    voters: Annotated[
        Voters, typer.Option("--voters", help="Members that may vote, by breadth.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.voters,
    vote: Annotated[
        Vote, typer.Option("--vote", help="Most votes win, or draw by votes.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.vote,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of --vote sample, above 0.", rich_help_panel=VOTING)
    ] = DEFAULT.vote.temperature,
    iterations: Annotated[
        int, typer.Option("--iterations", help="Fine-tuning steps; 0 = none.", rich_help_panel=TRAINING)
    ] = DEFAULT.fit.iterations,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images a step.", rich_help_panel=TRAINING)
    ] = DEFAULT.fit.batch_size,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.", rich_help_panel=TRAINING)] = DEFAULT.fit.lr,
    distill: Annotated[
        float, typer.Option("--distill", help="Weight of distillation, in [0, 1].", rich_help_panel=TRAINING)
    ] = DEFAULT.fit.distill,
    device: Device = DEFAULT.device,
    seed: Seed = DEFAULT.seed,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a compact model for the classes of a list: ONNX file, labels, plan, weights and report."""
    limits = {"latency_ms": max_latency_ms, "macs": max_macs, "params": max_params, "size_kib": max_size_kib}
    given = {name: value for name, value in limits.items() if value is not None}
    typed = context.get_parameter_source("keep")
    if (given or budgets is not None) and typed is not None and typed.name == "COMMANDLINE":
        raise typer.BadParameter("--keep and a budget both set the size; give one of them")
    wanted = None if budgets is None else family(budgets, given)
    if wanted and add_to_zoo:
        raise typer.BadParameter("--add-to-zoo takes one model; add one of a family with: mvp-edge zoo add out/1ms")
    config = PruneConfig(
        task=task,
        data=data,
        out=out,
        force=force,
        zoo=zoo,
        vote=checked(
            lambda: replace(
                DEFAULT.vote,
                method=method,
                keep=keep,
                align=align,
                neighbours=neighbours,
                similarity=similarity,
                voters=voters,
                vote=vote,
                temperature=temperature,
            )
        ),
        budget=checked(lambda: Budget(**given)) if given and not wanted else None,
        fit=checked(lambda: replace(DEFAULT.fit, iterations=iterations, batch_size=batch_size, lr=lr, distill=distill)),
        device=device,
        seed=seed,
        add_to_zoo=add_to_zoo,
    )
    if wanted:
        return _family(config, wanted, json=json, quiet=quiet)
    from mvp_edge.pipeline import compress

    with shown(quiet=quiet) as progress:
        report = compress(config, progress)
    from .tables import show_report, warn

    if json:
        typer.echo((out / "report.json").read_text(encoding="utf-8"), nl=False)
        warn(report["warnings"])
    else:
        show_report(report)
    return None


def _family(config: PruneConfig, budgets: list[Budget], *, json: bool, quiet: bool) -> None:
    from mvp_edge.family import compress_family

    with shown(quiet=quiet) as progress:
        index = compress_family(config, budgets, progress)
    from .tables import show_family, warn

    if json:
        typer.echo((config.out / "index.json").read_text(encoding="utf-8"), nl=False)
    else:
        show_family(index)
    warn(index["warnings"])
