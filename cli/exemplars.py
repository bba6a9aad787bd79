"""`mvp-edge zoo exemplars`: generate a few images of every class that a zoo's base model knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from mvp_edge.config import ExemplarConfig

from .options import INPUT, TRAINING, Device, Json, Quiet, Seed, Threads, checked, print_json
from .progress import shown

DEFAULT = ExemplarConfig()
EPILOG = """
[bold]Examples[/]

mvp-edge zoo exemplars animals/

mvp-edge zoo exemplars animals/ --per-class 10 --steps 400

mvp-edge zoo exemplars vits/ --of animals/

Repeat the same command after an interruption: finished batches are kept.
"""


def register(zoo: typer.Typer) -> None:
    """Add the command to the `zoo` commands."""
    zoo.command("exemplars", epilog=EPILOG)(exemplars)


def exemplars(
    name: Annotated[str, typer.Argument(metavar="NAME|DIR", help="Bundled zoo or directory.")],
    of: Annotated[
        str | None,
        typer.Option(
            "--of",
            metavar="NAME|DIR",
            help="Take another zoo's images: for a base without batch norms, which cannot be inverted.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    per_class: Annotated[
        int, typer.Option("--per-class", help="Images of each class.", rich_help_panel=TRAINING)
    ] = DEFAULT.per_class,
    steps: Annotated[
        int, typer.Option("--steps", help="Optimiser steps of each batch.", rich_help_panel=TRAINING)
    ] = DEFAULT.steps,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Images made together.", rich_help_panel=TRAINING)
    ] = DEFAULT.batch_size,
    device: Device = "auto",
    threads: Threads = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Generate images of the base model's classes by inverting it; no image of a data set is used."""
    config = checked(lambda: replace(DEFAULT, per_class=per_class, steps=steps, batch_size=batch_size))
    from mvp_edge.build.exemplars import build_exemplars, share_exemplars
    from mvp_edge.core.device import resolve_device, use_threads
    from mvp_edge.models.prunable import PrunableModel
    from mvp_edge.zoo.store import open_zoo

    use_threads(threads)
    place = resolve_device(device)
    opened = open_zoo(name)
    try:
        with shown(quiet=quiet) as progress:
            if of is not None:
                made = share_exemplars(opened, open_zoo(of))
            else:
                prunable = PrunableModel.of(opened.base, opened.load_base())
                made = build_exemplars(opened, prunable, config, device=place, seed=seed, progress=progress)
    except KeyboardInterrupt as e:
        raise KeyboardInterrupt("finished batches are kept, and the same command goes on with the others") from e
    if json:
        print_json({"zoo": opened.name, "images": len(made), "classes": len(made.classes), "recipe": made.recipe})
    else:
        typer.echo(f"zoo {opened.name} in {opened.directory} has {len(made)} images of {len(made.classes)} classes")
