"""`mvp-edge bases`: the base models that sub-networks are cut from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import Json, print_json

EPILOG = """
[bold]Example[/]

mvp-edge bases --json
mvp-edge bases --check timm:mobilenetv3_small_050
"""


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command("bases", epilog=EPILOG)(bases)


Check = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Show what of a network can be pruned: a base, or timm:NAME."),
]


def bases(check: Check = None, json: Json = False) -> None:
    """List the registered base models and those of the bundled zoos, or show what of a network can be pruned."""
    if check is not None:
        return _check(check, json)
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
    return None


def _check(name: str, json: bool) -> None:
    from dataclasses import asdict

    from mvp_edge.models.bases import find_base
    from mvp_edge.models.support import check_architecture, random_network

    base = find_base(name)
    support, _ = check_architecture(base, random_network(base, max(2, len(base.classes))))
    if json:
        print_json(asdict(support))
    else:
        from .tables import show_support

        show_support(support)
