"""`mvp-edge bases`: the base models that sub-networks are cut from."""

from __future__ import annotations

from typing import Any

import typer

from .options import Json, print_json

EPILOG = """
[bold]Example[/]

mvp-edge bases --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("bases", epilog=EPILOG)(bases)


def bases(json: Json = False) -> None:
    """List the registered base models."""
    from mvp_edge.models.bases import BUNDLED, REGISTRY, load_base

    rows: list[dict[str, Any]] = []
    for name, registered in REGISTRY.items():
        path = BUNDLED.get(name)
        there = path is not None and path.is_file()
        base = load_base(name)[0] if there else registered
        rows.append(base.to_json() | {"classes": len(base.classes), "weights": "bundled" if there else None})
    if json:
        print_json({"bases": rows})
    else:
        from .tables import show_bases

        show_bases(rows)
