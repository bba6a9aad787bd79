"""A page that runs a model in a browser, offline and without a server."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mvp_edge.core.environment import own_version
from mvp_edge.core.templates import load_template, read_asset
from mvp_edge.deploy.ort_web import OrtWeb
from mvp_edge.export.classifier import Interface
from mvp_edge.report.figures import storage

FOLDER = "deploy/web"
SCRIPTS = ("resize.js", "model.js", "app.js")
DENSE_FILE = "dense.js"
MANIFEST, WORKER, ICON = "manifest.webmanifest", "worker.js", "icon.svg"
TITLED = 6  # number of class names that fit a headline
# No connections, so no picture can leave the device. Scripts come from the page, from the blob with the unpacked
# runtime, and from the file beside the page (`file:` if the page was opened by double-click).
POLICY = (
    "default-src 'none'; script-src 'self' file: 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
    "manifest-src 'self'; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; media-src blob: mediastream:; form-action 'none'; "
    "base-uri 'none'"
)


@dataclass(frozen=True)
class Embedded:
    """A model inside the page: its title and its `.ort` file."""

    title: str
    data: bytes


@dataclass(frozen=True)
class Dense:
    """The dense model, in a file beside the page because of its size.

    Attributes:
        data: The `.ort` file.
        interface: Its input and output; the image size equals that of the other models.
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
        interface: Input and output of the models.
        models: At least one; the first is selected at the start.
        dense: The dense model, for a comparison.
        ort_web: The runtime, embedded in the page.
        facts: Facts about the model, as pairs of name and value.
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


def app_files(page: str, interface: Interface, dense: Dense | None) -> dict[str, str]:
    """Return the files beside the page with which a browser installs it as an app that works offline."""
    name = _title(interface.labels)
    manifest = {
        "name": f"Try it: {name}", "short_name": "mvp-edge", "start_url": "index.html", "scope": "./",
        "display": "standalone", "background_color": "#f4f6f4", "theme_color": "#14735a",
        "icons": [{"src": ICON, "sizes": "any", "type": "image/svg+xml", "purpose": "any maskable"}],
    }  # fmt: skip
    kept = ["./", "index.html", MANIFEST, ICON, *([] if dense is None else [DENSE_FILE])]
    version = f"mvp-edge-{hashlib.sha256(page.encode()).hexdigest()[:16]}"
    return {
        MANIFEST: json.dumps(manifest, indent=1, ensure_ascii=False) + "\n",
        WORKER: load_template(FOLDER, "worker.js.j2").render(version=version, files=kept) + "\n",
        ICON: read_asset(FOLDER, ICON),
    }


def dense_script(dense: Dense) -> str:
    """Return the script that contains the dense model."""
    return f'globalThis.mvpEdgeDense = "{pack(dense.data)}";\n'


def pack(data: bytes) -> str:
    """Return bytes in the form embedded in the page: gzipped, then base64."""
    return base64.b64encode(gzip.compress(data, mtime=0)).decode("ascii")


def _config(interface: Interface, models: Sequence[Embedded], dense: Dense | None) -> dict[str, Any]:
    height, width = interface.size
    return {
        "made": f"mvp-edge {own_version()}",
        "classes": list(interface.labels),
        "width": width,
        "height": height,
        **_names(interface),
        "models": [
            {"id": f"model-{i}", "title": model.title, "bytes": len(model.data)} for i, model in enumerate(models)
        ],
        "dense": {"file": DENSE_FILE, "bytes": len(dense.data), **_names(dense.interface)} if dense else None,
    }


def _names(interface: Interface) -> dict[str, Any]:
    known, threshold = interface.to_json()["known"], interface.known_threshold
    return {
        "temperature": interface.temperature,
        "known": None if known is None else {"name": known["name"], "threshold": threshold},
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
