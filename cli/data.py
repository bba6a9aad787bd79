"""`mvp-edge data`: what is in a folder of images, and what `prune` would use of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import GroupBy, Json, Quiet, Threads, print_json
from .progress import STARTING, shown

EPILOG = """
[bold]Examples[/]

mvp-edge data photos/

mvp-edge data photos/ --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("data", epilog=EPILOG)(data)


def data(
    folder: Annotated[str, typer.Argument(metavar="DIR|FILE|NAME", help="Images, as for --data of `prune`.")],
    group_by: GroupBy = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which images a folder holds, by class and split, and which are set aside, damaged or copies."""
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.core.device import use_threads
            from mvp_edge.data import open_source
            from mvp_edge.data.look import look
        use_threads(threads)
        found = look(open_source(folder, group_by), progress)
    result: dict[str, Any] = found.to_json()
    if json:
        print_json(result)
    else:
        from .tables import show_data

        show_data(result)
