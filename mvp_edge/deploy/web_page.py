"""One page that runs a model in a browser, without a server and without a network."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mvp_edge.core.templates import load_template, read_asset
from mvp_edge.deploy.ort_web import OrtWeb
from mvp_edge.export.interface import Interface
from mvp_edge.report.figures import storage

FOLDER = "deploy/web"
SCRIPTS = ("resize.js", "model.js", "app.js")
DENSE_FILE = "dense.js"
TITLED = 6  # so many class names fit a headline
# Nothing may be fetched, so no picture can leave the device. Scripts come from the page, from the blob that the runtime
# is unpacked into, and from the file beside it (`file:` where the page was opened by double-click).
POLICY = (
    "default-src 'none'; script-src 'self' file: 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; media-src blob: mediastream:; form-action 'none'; base-uri 'none'"
)


@dataclass(frozen=True)
class Embedded:
    """A model that the page carries.

    Attributes:
        title: How the page calls it.
        data: The `.ort` file.
    """

    title: str
    data: bytes


@dataclass(frozen=True)
class Dense:
    """The whole model, which lies beside the page because of its size.

    Attributes:
        data: The `.ort` file.
        interface: What it takes and gives; its image size is the other models'.
    """

    data: bytes
    interface: Interface


def render_page(
    interface: Interface,
    models: Sequence[Embedded],
    dense: Dense | None,
    ort_web: OrtWeb,
    facts: Sequence[tuple[str, str]],
) -> str:
    """Return the page as HTML.

    Args:
        interface: What the models take and give.
        models: At least one; the first answers until the user chooses another.
        dense: The whole model, if the page offers to compare with it.
        ort_web: The runtime, which is put into the page.
        facts: What is known of the model, as pairs of name and value.
    """
    return load_template(FOLDER, "page.html.j2").render(
        config=_config(interface, models, dense),
        dense_size=storage(len(dense.data)) if dense else "",
        facts=list(facts),
        lead=f"{storage(len(models[0].data))}, running inside this page. Pictures stay on this device.",
        ort_web=ort_web.version,
        parts={
            "script": pack(ort_web.script),
            "wasm": pack(ort_web.wasm),
            "models": [pack(model.data) for model in models],
        },
        policy=POLICY,
        scripts=[read_asset(FOLDER, name) for name in SCRIPTS],
        style=read_asset(FOLDER, "page.css"),
        title=_title(interface.labels),
    )


def dense_script(dense: Dense) -> str:
    """Return the script that carries the whole model."""
    return f'globalThis.mvpEdgeDense = "{pack(dense.data)}";\n'


def pack(data: bytes) -> str:
    """Return bytes as the page carries them: gzipped, then base64."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


def _config(interface: Interface, models: Sequence[Embedded], dense: Dense | None) -> dict[str, Any]:
    height, width = interface.size
    return {
        "classes": list(interface.labels),
        "width": width,
        "height": height,
        **_names(interface),
        "models": [
            {"id": f"model-{i}", "title": model.title, "bytes": len(model.data)} for i, model in enumerate(models)
        ],
        "dense": {"file": DENSE_FILE, "bytes": len(dense.data), **_names(dense.interface)} if dense else None,
    }


def _names(interface: Interface) -> dict[str, str]:
    return {
        "input": interface.input_name,
        "output": interface.output_name,
        "dtype": interface.dtype,
        "layout": interface.layout,
    }


def _title(labels: Sequence[str]) -> str:
    names = [label.replace("_", " ") for label in labels]
    if len(names) > TITLED:
        return f"Which of {len(names)} classes is it?"
    return f"{', '.join(names[:-1])} or {names[-1]}?" if len(names) > 1 else f"{names[0]}?"
