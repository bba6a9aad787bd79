"""Templates and text files in the package."""

from __future__ import annotations

import html
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


_MARKS = re.compile(r"([\\`*_{}\[\]()#!|~$])")


def plain(text: object) -> str:
    """Return text on one line so that Markdown, with the HTML that it may hold, shows it as it is."""
    return _MARKS.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def read_asset(folder: str, name: str) -> str:
    """Return a text file in a folder of the package, such as `report`."""
    return (files("mvp_edge") / folder / name).read_text(encoding="utf-8")


@cache
def load_template(folder: str, name: str) -> Template:
    """Return a template; missing values are errors, and HTML templates escape their values, others with `plain`."""
    # Imported here, because only commands that make a page need it.
    from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FunctionLoader(lambda other: read_asset(folder, other)),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template(name)
