"""`mvp-edge push`: publish a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Private, Quiet, Target, print_json
from .progress import STARTING, shown

EPILOG = """
[bold]Examples[/]

mvp-edge push out/ hf://ORG/NAME

mvp-edge push out/ s3://BUCKET/PATH --json

The token of `hf auth login`, and your credentials for the store, are used.
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("push", epilog=EPILOG)(push)


def push(
    result: Annotated[Path, typer.Argument(metavar="RESULT_DIR", help="A result of `mvp-edge prune`.")],
    target: Target,
    private: Private = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Publish a result of `prune` with a card: models, labels and config.json."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.deploy.publish import publish_result
        address = publish_result(result, target, private=private, progress=progress)
    print_json({"published": address}) if json else typer.echo(f"published: {address}")
