"""onnxruntime-web in headless Chromium, loaded as the page of `export --target web` loads it: WebAssembly, one thread.

onnxruntime-web comes from the user's cache, which is filled from npm once; the browser must be installed. `mvp_edge` is
imported where it is used, because it brings torch, which the other runtimes start without.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.runtimes.chromium import Page, find_chromium

Runner = Callable[[np.ndarray], np.ndarray]

ANSWER_S = 500  # less than `measurements.runtimes` allows, so that the reason comes from here
NO_BROWSER = "no Chromium is installed"


@contextmanager
def with_ort_web(path: Path) -> Iterator[Runner]:
    """Load an ONNX file in a page of its own.

    Raises:
        RuntimeError: no browser is installed, or it or the runtime refuses.
        ExportError: onnxruntime-web is not to be had.
    """
    executable = find_chromium()
    if executable is None:
        raise RuntimeError(NO_BROWSER)
    # Helpers of a browser that has ended may still write to its profile.
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        html = Path(scratch) / "index.html"
        html.write_text(_page(path.read_bytes()), encoding="utf-8")
        with closing(Page(executable, Path(scratch) / "profile", ANSWER_S)) as page:
            page.open(html.as_uri())
            page.run("started.then(() => true)")
            yield lambda images: _logits(page, images)


def web_version() -> str | None:
    """Return the version of onnxruntime-web, None where it is not in the cache or there is no browser."""
    from mvp_edge.core.places import cache_dir
    from mvp_edge.deploy.ort_web import SCRIPT, VERSION, WASM

    cached = cache_dir() / "onnxruntime-web" / VERSION
    return VERSION if find_chromium() and all((cached / name).is_file() for name in (SCRIPT, WASM)) else None


def _page(model: bytes) -> str:
    """Return a page that starts the runtime with a model."""
    from mvp_edge.deploy.ort_web import find_ort_web
    from mvp_edge.deploy.web import pack

    ort_web = find_ort_web(None)
    given = {"script": pack(ort_web.script), "wasm": pack(ort_web.wasm), "model": pack(model)}
    loader = (files("mvp_edge.deploy") / "web" / "model.js").read_text(encoding="utf-8")
    own = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
    return f"<!doctype html><script>{loader}\n{own}\nconst started = start({json.dumps(given)});</script>"


def _logits(page: Page, images: np.ndarray) -> np.ndarray:
    """Return what the model says of images, float32 or uint8, of any shape that it takes."""
    from mvp_edge.deploy.web import pack

    fed = {"dtype": images.dtype.name, "dims": images.shape, "data": pack(images.tobytes())}
    found = page.run(f"started.then((model) => logits(model, {json.dumps(fed)}))")
    return np.frombuffer(base64.b64decode(found["data"]), "<f4").reshape(found["dims"])
