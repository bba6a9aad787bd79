"""Pages and texts from the templates that lie in the package."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


def read_asset(folder: str, name: str) -> str:
    """Return a text file of a folder of the package, such as `report`."""
    return (files("mvp_edge") / folder / name).read_text(encoding="utf-8")


def load_template(folder: str, name: str) -> Template:
    """Return a template, for which a value that is missing is an error; one of HTML escapes what it is given."""
    # Imported here: commands that make no page start faster without it.
    from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FunctionLoader(lambda other: read_asset(folder, other)),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
