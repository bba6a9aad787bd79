"""onnxruntime-web, which a page contains: from a directory, or from npm once, against its checksum."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ExportError
from mvp_edge.core.places import cache_dir

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
