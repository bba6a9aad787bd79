"""`mvp-edge data`: what is in a folder of images, and what `prune` would use of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mvp_edge.core.errors import ConfigError
from mvp_edge.core.output import check_writable

from .options import Force, GroupBy, Json, Quiet, Threads, output_option, print_json
from .progress import STARTING, shown

EPILOG = """
[bold]Examples[/]

mvp-edge data photos/

mvp-edge data photos.zip --json

mvp-edge data photos/ --contact-sheet photos.html
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("data", epilog=EPILOG)(data)


def data(
    folder: Annotated[str, typer.Argument(metavar="DIR|FILE|NAME", help="Images, as for --data of `prune`.")],
    group_by: GroupBy = None,
    contact_sheet: Annotated[
        Path | None,
        output_option("--contact-sheet", metavar="FILE.html", help="Also write a page with images of each class."),
    ] = None,
    force: Force = False,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which images a folder holds, by class and split, which are set aside, damaged or copies, and leaks."""
    if contact_sheet is not None:
        if contact_sheet.exists() and (contact_sheet.is_dir() or not force):
            raise ConfigError(f"{contact_sheet} exists; replace a file with --force, or name another one")
        if contact_sheet.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"the contact sheet is a page; call it {contact_sheet.with_suffix('.html')}")
        check_writable(contact_sheet, "--contact-sheet")
    with shown(quiet=quiet) as progress:
        with progress.stage(STARTING):
            from mvp_edge.core.device import use_threads
            from mvp_edge.data import open_source
            from mvp_edge.data.look import look
        use_threads(threads)
        source = open_source(folder, group_by)
        found = look(source, progress)
        if contact_sheet is not None:
            from mvp_edge.report.sheet import render_sheet

            render_sheet(source.name, found, contact_sheet)
    result: dict[str, Any] = found.to_json()
    if json:
        print_json(result)
    else:
        from .tables import show_data

        show_data(result, contact_sheet)
