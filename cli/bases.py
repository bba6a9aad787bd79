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
    """List the registered base models, and those of the bundled zoos."""
    from mvp_edge.models.bases import REGISTRY
    from mvp_edge.zoo.location import bundled_zoos
    from mvp_edge.zoo.store import open_zoo

    found = [(base, None) for base in REGISTRY.values()]
    found += [(open_zoo(name).base, f"zoo {name}") for name in bundled_zoos()]
    rows: list[dict[str, Any]] = [b.to_json() | {"classes": len(b.classes), "weights": where} for b, where in found]
    if json:
        print_json({"bases": rows})
    else:
        from .tables import show_bases

        show_bases(rows)
