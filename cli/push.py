"""`mvp-edge push` and `mvp-edge zoo push`: publish a result or a zoo."""

from __future__ import annotations

import typer

from .options import Json, Private, Quiet, Result, Target, ZooArgument, print_json
from .progress import STARTING, shown

RIGHTS = "The token of `hf auth login`, and your credentials for the store, are used."
EPILOG = f"""
[bold]Examples[/]

mvp-edge push out/ hf://ORG/NAME

mvp-edge push out/ s3://BUCKET/PATH --json

{RIGHTS}
"""
ZOO_EPILOG = f"""
[bold]Examples[/]

mvp-edge zoo push animals/ hf://ORG/NAME

mvp-edge zoo push animals/ s3://BUCKET/animals

mvp-edge zoo push animals/ public/animals

{RIGHTS}
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("push", epilog=EPILOG)(push)


def push(result: Result, target: Target, private: Private = False, json: Json = False, quiet: Quiet = False) -> None:
    """Publish a result of `prune` with a card: models, labels and config.json."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.deploy.publish import publish_result
        address = publish_result(result, target, private=private, progress=progress)
    _show(address, json=json)


def push_zoo(
    name: ZooArgument, target: Target, private: Private = False, json: Json = False, quiet: Quiet = False
) -> None:
    """Publish a zoo with a card, for others to use by its address."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.zoo.bodies import open_bodies
            from mvp_edge.zoo.publish import publish_zoo
            from mvp_edge.zoo.store import open_zoo
        address = publish_zoo(open_zoo(name), open_bodies(name), target, private=private, progress=progress)
    _show(address, json=json)


def _show(address: str, *, json: bool) -> None:
    print_json({"published": address}) if json else typer.echo(f"published: {address}")
