"""`mvp-edge prune`: the main job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

from mvp_edge.config import (
    Budget,
    ChannelMultiple,
    FitOverrides,
    InputFormat,
    Method,
    Precision,
    PruneConfig,
    Schedule,
    Vote,
)
from mvp_edge.training.recipes import recipe

from .amounts import family, limit
from .options import (
    NO_VOTE,
    Bf16,
    Device,
    GroupBy,
    Json,
    Optimizer,
    Quiet,
    Seed,
    Similarity,
    Task,
    Threads,
    Voters,
    Weights,
    ZooName,
    checked,
    data_option,
    idle,
    input_option,
    keep_option,
    output_option,
    print_json,
    rate,
    size_option,
    training_option,
    typed,
    voting_option,
)
from .process import started
from .progress import STARTING, shown

if TYPE_CHECKING:
    from mvp_edge.core.progress import Progress
    from mvp_edge.report.record import FamilyReport, Report

DEFAULT = PruneConfig(task=Path("classes.txt"), data=None)
RECIPE, BODIES = recipe("prune", "sgd"), recipe("photographs", "adamw")
TRAINING_FLAGS = ("iterations", "batch_size", "lr", "optimizer", "schedule", "bf16", "group_by")
VOTING_FLAGS = ("channel_multiple", "neighbours", "vote", "temperature")
UNCHANGED = "without images a network is delivered unchanged, so {flags} no effect; add --data DIR"
MEMBERS = "the networks of this zoo are pruned members, so {flags} no effect; leave {them} out"
BUDGET = "a budget sets the size, so {flags} no effect; leave {them} out"


class Idle(NamedTuple):
    """Options that have no effect, and in which runs that is so.

    Attributes:
        flags: The options.
        why: The note for the user.
        bodies: Runs on ready-made networks, or on members; None is both.
        images: Runs with images, or without; None is both.
        budget: Runs with a budget, or without; None is both.
    """

    flags: tuple[str, ...]
    why: str
    bodies: bool | None = None
    images: bool | None = None
    budget: bool | None = None


IDLE = (
    Idle(TRAINING_FLAGS, UNCHANGED, images=False),
    Idle(("device", "seed", "thumbnails"), UNCHANGED, images=False, bodies=True),
    Idle(VOTING_FLAGS, UNCHANGED, images=False, bodies=False),
    Idle((*VOTING_FLAGS, "method", "similarity", "voters"), NO_VOTE, bodies=True),
    Idle(("max_drop", "unknown"), MEMBERS, bodies=False),
    Idle(("max_drop",), BUDGET, bodies=True, budget=True),
)

EPILOG = """
[bold]Examples[/]

mvp-edge prune --task classes.txt

mvp-edge prune --task classes.txt --data photos/

mvp-edge prune --task classes.txt --base timm:mobilenetv3_small_050 --max-macs 20M

mvp-edge prune --task classes.txt --data photos/ --zoo my-zoo/ --keep 0.2 --out small --force

mvp-edge prune --task classes.txt --max-latency-ms 5 --max-size-kib 2MiB

mvp-edge prune --task classes.txt --budgets 25MMACs,60MMACs,2MiB --out family

mvp-edge prune --task classes.txt --data photos/ --json > report.json
"""


class Prune(TyperCommand):
    """Reports a class list or images typed without their option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        options, stray, _ = self.make_parser(ctx).parse_args(args=list(args))
        if stray and not options.get("help"):
            ctx.fail(f"{stray[0]!r} has no option; give the class list with --task FILE and images with --data DIR")
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("prune", cls=Prune, epilog=EPILOG)(prune)


def multiple(value: Any) -> ChannelMultiple:
    """Read a number of channels or `auto`."""
    if value == "auto":
        return "auto"
    try:
        return int(value)
    except ValueError as e:
        raise typer.BadParameter(f"{value!r} must be a whole number or auto") from e


def prune(
    context: typer.Context,
    task: Task,
    data: Annotated[
        str | None, data_option("Optional: without images, a network of the zoo that knows the classes is delivered.")
    ] = None,
    group_by: GroupBy = None,
    zoo: ZooName = None,
    base: Annotated[
        str | None,
        input_option(
            "--base",
            metavar="NAME|FILE",
            help="In place of a zoo: timm:NAME or a .safetensors file, used with its own weights at fewer pixels.",
        ),
    ] = None,
    weights: Weights = None,
    out: Annotated[Path, output_option("--out", metavar="DIR", help="Directory of the result.")] = DEFAULT.out,
    force: Annotated[
        bool, output_option("--force", help="Replace an older result and its exports; never other files.")
    ] = DEFAULT.force,
    add_to_zoo: Annotated[bool, output_option("--add-to-zoo", help="Add this model to the zoo.")] = DEFAULT.add_to_zoo,
    precision: Annotated[
        Precision,
        output_option(
            "--precision",
            help="Second file: none (fp32), fp16, int8, or int8 if it loses less than a point and is clearly faster or "
            "smaller (auto).",
        ),
    ] = DEFAULT.precision,
    input_format: Annotated[
        InputFormat, output_option("--input", help="Input of the file: RGB in [0, 1], or raw bytes with colours last.")
    ] = DEFAULT.input,
    unknown: Annotated[
        bool,
        output_option(
            "--unknown/--no-unknown", help="A second output, known: whether a picture shows any of the classes."
        ),
    ] = DEFAULT.unknown,
    none: Annotated[
        str | None,
        output_option(
            "--none",
            metavar="DIR",
            help="With images: pictures of none of the classes, which set the threshold of that output.",
        ),
    ] = DEFAULT.none,
    keep: Annotated[float, keep_option("on zoos of pruned members: ")] = DEFAULT.vote.keep,
    max_drop: Annotated[
        float,
        size_option(
            "--max-drop",
            metavar="POINTS",
            min=0,
            max=100,
            help="Without a budget, on zoos of ready-made networks: the smallest that is expected to be at most "
            "this many points less accurate than the best.",
        ),
    ] = DEFAULT.max_drop,
    max_latency_ms: Annotated[
        float | None,
        size_option(
            "--max-latency-ms",
            metavar="MS",
            parser=limit("latency_ms"),
            help="Limit of the latency on this machine, not on a phone; one thread.",
        ),
    ] = None,
    max_macs: Annotated[
        float | None,
        size_option("--max-macs", metavar="COUNT", parser=limit("macs"), help="Limit of multiply-adds, such as 60M."),
    ] = None,
    max_params: Annotated[
        float | None,
        size_option("--max-params", metavar="COUNT", parser=limit("params"), help="Limit of parameters, such as 3M."),
    ] = None,
    max_size_kib: Annotated[
        float | None,
        size_option("--max-size-kib", metavar="KIB", parser=limit("size_kib"), help="Limit of the size of model.onnx."),
    ] = None,
    budgets: Annotated[
        str | None, size_option("--budgets", metavar="LIST", help="One model per budget, such as 5ms,60MMACs,2MiB.")
    ] = None,
    channel_multiple: Annotated[
        Any,
        size_option(
            "--channel-multiple",
            metavar="N|auto",
            parser=multiple,
            help="Keep multiples of this many channels; 1 = any number; auto = the multiples that cost no time here.",
        ),
    ] = DEFAULT.vote.channel_multiple,
    method: Annotated[
        Method, voting_option("--method", help="mvp: vote layer by layer. smsp: vote over all layers together.")
    ] = DEFAULT.vote.method,
    neighbours: Annotated[
        int, voting_option("--neighbours", help="Number of nearest members that vote.")
    ] = DEFAULT.vote.neighbours,
    similarity: Similarity = DEFAULT.vote.similarity,
    voters: Voters = DEFAULT.vote.voters,
    vote: Annotated[
        Vote, voting_option("--vote", help="top: most votes win. sample: draw by votes.")
    ] = DEFAULT.vote.vote,
    temperature: Annotated[
        float, voting_option("--temperature", help="Temperature of --vote sample, above 0; higher is more random.")
    ] = DEFAULT.vote.temperature,
    thumbnails: Annotated[
        bool, output_option("--thumbnails/--no-thumbnails", help="Show small test images in report.html.")
    ] = DEFAULT.thumbnails,
    iterations: Annotated[
        int, training_option("--iterations", help="Fine-tuning steps; 0 = none.")
    ] = RECIPE.iterations,
    optimizer: Optimizer = None,
    batch_size: Annotated[
        int,
        training_option(
            "--batch-size",
            help="Images per step.",
            show_default=f"{RECIPE.batch_size}, or {BODIES.batch_size} on ready-made networks",
        ),
    ] = RECIPE.batch_size,
    lr: Annotated[float | None, rate("prune", also=f", or {BODIES.lr:g} on ready-made networks")] = None,
    schedule: Annotated[
        Schedule,
        training_option(
            "--schedule",
            help="auto: keep fine-tuning that does no harm on images left out of it: of ready-made networks a "
            "part of the change, of pruned members below 2000 images as much as cross-validation decides. fixed: all.",
        ),
    ] = DEFAULT.schedule,
    device: Device = DEFAULT.device,
    threads: Threads = None,
    bf16: Bf16 = "auto",
    seed: Seed = DEFAULT.seed,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a compact model for the classes of a list: ONNX file, labels, plan, weights and report."""
    if zoo is not None and base is not None:
        raise typer.BadParameter("--zoo and --base both name what the networks are made of; give only one")
    limits = {"latency_ms": max_latency_ms, "macs": max_macs, "params": max_params, "size_kib": max_size_kib}
    given = {name: value for name, value in limits.items() if value is not None}
    if (given or budgets is not None) and typed(context, "keep"):
        raise typer.BadParameter("--keep and a budget both set the size; give only one")
    wanted = None if budgets is None else family(budgets, given)
    fixed = checked(lambda: PruneConfig(task=task, data=data, zoo=zoo, base=base, weights=weights))
    config = checked(
        lambda: replace(
            fixed,
            out=out,
            force=force,
            vote=checked(
                lambda: replace(
                    DEFAULT.vote,
                    method=method,
                    keep=keep,
                    channel_multiple=channel_multiple,
                    neighbours=neighbours,
                    similarity=similarity,
                    voters=voters,
                    vote=vote,
                    temperature=temperature,
                )
            ),
            budget=checked(lambda: Budget(**given, typed={})) if given and not wanted else None,
            fit=checked(
                lambda: FitOverrides(
                    iterations=iterations if typed(context, "iterations") else None,
                    batch_size=batch_size if typed(context, "batch_size") else None,
                    lr=lr,
                    optimizer=optimizer,
                )
            ),
            device=device,
            seed=seed,
            add_to_zoo=add_to_zoo,
            input=input_format,
            precision=precision,
            schedule=schedule,
            max_drop=max_drop,
            unknown=unknown,
            none=none,
            group_by=group_by,
            thumbnails=thumbnails,
        )
    )
    with shown(quiet=quiet) as progress:
        if base is not None:
            _start(progress, threads, bf16)
        from mvp_edge.prune.job import compress, compress_family, read_job

        job = read_job(config, progress)
        if job.zoo is not None and typed(context, "keep"):
            raise typer.BadParameter(
                f"the networks of zoo {job.zoo.name} differ in pixels, not in units; "
                "set their size with --max-drop or a budget, such as --max-macs 60M"
            )
        if job.trains and base is None:
            _start(progress, threads, bf16)
        if wanted:
            made = compress_family(config, wanted, progress, started(), job)
        else:
            made = compress(config, progress, started(), job)
    notes = _idle(context, bodies=job.zoo is not None, images=data is not None, budget=bool(given or wanted))
    _show(made, notes, json=json)


def _start(progress: Progress, threads: Threads, bf16: Bf16) -> None:
    """Import what trains, which takes seconds, and set how it computes."""
    with progress.stage(STARTING):
        from mvp_edge.core.device import use_bf16, use_threads
        from mvp_edge.prune import photographs, voted  # noqa: F401  # not while a later stage is shown
    use_threads(threads)
    use_bf16(bf16)


def _show(made: Report | FamilyReport, notes: Sequence[str], *, json: bool) -> None:
    """Show what was made, its warnings, and notes on the command."""
    from mvp_edge.report.record import FamilyReport

    from .tables import show_family, show_report, warn

    if json:
        print_json(made.to_json())
    elif isinstance(made, FamilyReport):
        show_family(made)
    else:
        show_report(made)
    warn([*made.warnings, *notes])


def _idle(context: typer.Context, **run: bool) -> list[str]:
    """Return notes on flags of the command line that had no effect in a run of these properties, as `Idle` has them."""
    rows = [row for row in IDLE if all(getattr(row, name) in (None, value) for name, value in run.items())]
    found = ((row.why, flags) for row in rows if (flags := typed(context, *row.flags)))
    return [idle(why, flags) for why, flags in found]
