"""A page that runs a model in a browser, offline and without a server, and onnxruntime-web, which it contains."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.environment import own_version
from mvp_edge.core.errors import ExportError
from mvp_edge.core.places import cache_dir
from mvp_edge.core.templates import load_template, read_asset
from mvp_edge.export.classifier import Interface
from mvp_edge.report.figures import storage

VERSION = "1.30.0"
# What npm publishes for that version (`npm view onnxruntime-web@1.30.0 dist.integrity`), and of it what is used here.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
TIMEOUT_S = 600


@dataclass(frozen=True)
class OrtWeb:
    """The two files that run a model in a browser.

    Attributes:
        version: Of onnxruntime-web; empty if unknown.
        script: JavaScript module that includes the loader of the WebAssembly.
        wasm: The WebAssembly.
    """

    version: str
    script: bytes
    wasm: bytes


def find_ort_web(directory: Path | None) -> OrtWeb:
    """Return onnxruntime-web from `directory`, else from the user's cache, which is filled from npm once.

    Raises:
        ExportError: the directory lacks a file, npm cannot be reached, or the download does not match its checksum.
    """
    if directory is not None:
        return _from_directory(directory)
    cached = cache_dir() / "onnxruntime-web" / VERSION
    if not _sound(cached):
        _fill(cached)
    return OrtWeb(VERSION, (cached / SCRIPT).read_bytes(), (cached / WASM).read_bytes())


def _from_directory(directory: Path) -> OrtWeb:
    dist = next(
        (d for d in (directory, directory / "dist", directory / "package" / "dist") if (d / WASM).is_file()), directory
    )
    missing = [name for name in (SCRIPT, WASM) if not (dist / name).is_file()]
    if missing:
        raise ExportError(
            f"{directory} has no {' and no '.join(missing)}; run `npm pack onnxruntime-web@{VERSION}`, unpack the "
            "file and give its folder: --ort-web package/dist"
        )
    try:
        version = str(json.loads((dist.parent / "package.json").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        version = ""  # a folder with just the two files is fine
    return OrtWeb(version, (dist / SCRIPT).read_bytes(), (dist / WASM).read_bytes())


def _sound(directory: Path) -> bool:
    try:
        return all(hashlib.sha256((directory / n).read_bytes()).hexdigest() == sha for n, sha in SHA256.items())
    except OSError:
        return False


def _fill(directory: Path) -> None:
    try:
        with TemporaryDirectory() as scratch:
            archive = _fetch(Path(scratch))
            algorithm, _, wanted = INTEGRITY.partition("-")
            found = base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode()
            if found != wanted:
                raise ExportError(
                    f"the download of onnxruntime-web {VERSION} does not match its checksum ({found[:12]}..., not "
                    f"{wanted[:12]}...); try again, or give a trusted copy with --ort-web DIR"
                )
            directory.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archive) as tar:
                for name in SHA256:
                    member = tar.extractfile(f"package/dist/{name}")
                    write_atomically(directory / name, member.read() if member else b"")
    except (OSError, KeyError, tarfile.TarError) as e:
        raise ExportError(
            f"onnxruntime-web {VERSION} cannot be written to {directory} ({getattr(e, 'strerror', None) or e}); free "
            "some space, or give a copy with --ort-web DIR"
        ) from e


def _fetch(scratch: Path) -> Path:
    """Download the archive with npm, which knows the user's mirror and proxy, or directly if npm is not installed."""
    npm = shutil.which("npm")
    try:
        if npm is not None:
            command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent", "--pack-destination", str(scratch)]
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=TIMEOUT_S)  # noqa: S603
            return next(scratch.glob("*.tgz"))
        archive = scratch / "package.tgz"
        with urllib.request.urlopen(URL, timeout=60) as response, archive.open("wb") as file:
            shutil.copyfileobj(response, file)
        return archive
    except (OSError, subprocess.SubprocessError, StopIteration) as e:
        reason = (getattr(e, "stderr", None) or b"").decode(errors="replace").strip() or str(e) or type(e).__name__
        raise ExportError(
            f"onnxruntime-web {VERSION} cannot be downloaded from npm ({reason.splitlines()[0]}); check the network, "
            f"or run `npm pack onnxruntime-web@{VERSION}` elsewhere, unpack the file and give it with --ort-web DIR"
        ) from e


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
