"""onnxruntime-web: from a directory, from npm once, and never without its checksum."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import stat
import tarfile
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy import ort_web
from mvp_edge.deploy.ort_web import SCRIPT, VERSION, WASM, find_ort_web

FILES = {SCRIPT: b"export {};", WASM: b"\0asm"}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive as npm sends it, whose checksums are taken for the right ones."""
    path = tmp_path / "sent.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in FILES.items():
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    monkeypatch.setattr(ort_web, "INTEGRITY", f"sha512-{digest}")
    monkeypatch.setattr(ort_web, "SHA256", {n: hashlib.sha256(d).hexdigest() for n, d in FILES.items()})
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "cache"))
    return path


def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put an `npm` that runs a shell script before everything else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def no_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "npm" else real(name))


def test_npm_is_asked_once(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, monkeypatch, f'echo "$@" >> {tmp_path}/asked; cp {archive} onnxruntime-web.tgz')
    for _ in range(2):
        found = find_ort_web(None)
        assert (found.version, found.script, found.wasm) == (VERSION, FILES[SCRIPT], FILES[WASM])
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 1 and asked[0].startswith(f"pack onnxruntime-web@{VERSION} ")


def test_a_damaged_cache_is_filled_again(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, monkeypatch, f"cp {archive} onnxruntime-web.tgz")
    find_ort_web(None)
    wasm = tmp_path / "cache" / "onnxruntime-web" / VERSION / WASM
    wasm.write_bytes(b"damaged")
    assert find_ort_web(None).wasm == FILES[WASM] == wasm.read_bytes()


def test_without_npm_the_registry_is_asked(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_npm(monkeypatch)
    asked = []

    def urlopen(url: str, **_: Any) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(archive.read_bytes())

    monkeypatch.setattr(ort_web.urllib.request, "urlopen", urlopen)
    assert find_ort_web(None).script == FILES[SCRIPT]
    assert asked == [f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"]


def test_another_archive_is_refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, monkeypatch, f"cp {archive} a.tgz; printf x >> a.tgz")
    with pytest.raises(ExportError, match=r"checksum.*--ort-web DIR"):
        find_ort_web(None)
    assert not (tmp_path / "cache").exists()


def test_npm_without_a_network(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, monkeypatch, "echo 'npm error network request failed' >&2; exit 1")
    with pytest.raises(ExportError, match=r"\(npm error network.*--ort-web DIR"):
        find_ort_web(None)


def test_npm_that_brings_nothing(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(ExportError, match=r"\(StopIteration\)"):
        find_ort_web(None)


def test_neither_npm_nor_network(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_npm(monkeypatch)

    def urlopen(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ort_web.urllib.request, "urlopen", urlopen)
    with pytest.raises(ExportError, match=r"no route to host.*--ort-web DIR"):
        find_ort_web(None)


def test_a_cache_that_cannot_be_written(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path, monkeypatch, f"cp {archive} a.tgz")
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ExportError, match=r"cannot be written .*--ort-web DIR"):
        find_ort_web(None)


@pytest.mark.parametrize("inner", ["", "dist"])
def test_a_directory_of_ones_own(fake_ort_web: Path, inner: str) -> None:
    found = find_ort_web(fake_ort_web / inner)
    assert found.version == "9.9.9" and found.wasm == b"\0asm fake"


def test_a_bare_directory(fake_ort_web: Path) -> None:
    (fake_ort_web / "package.json").unlink()
    assert find_ort_web(fake_ort_web).version == ""


def test_a_directory_that_lacks_a_file(fake_ort_web: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"has no {SCRIPT} and no {WASM}; .*--ort-web package/dist"):
        find_ort_web(tmp_path / "none")
    (fake_ort_web / "dist" / SCRIPT).unlink()
    with pytest.raises(ExportError, match=rf"has no {SCRIPT}; "):
        find_ort_web(fake_ort_web)
