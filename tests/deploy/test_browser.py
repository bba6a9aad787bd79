"""The page in a real browser with the real onnxruntime-web: opened by double-click, and served.

Needs Chromium, and onnxruntime-web either in the user's cache (an earlier `mvp-edge export --target web` has put it
there) or in the directory that MVP_EDGE_ORT_WEB names. Nothing is downloaded here. With MVP_EDGE_DATA, the pictures are
real ones; MVP_EDGE_SHOTS names a directory for screenshots.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.runtimes.chromium import Page, find_chromium
from mvp_edge.core.places import cache_dir
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data.images import decode
from mvp_edge.deploy.folder import ExportConfig, export_result
from mvp_edge.deploy.ort_web import SCRIPT, VERSION, WASM
from mvp_edge.export import OnnxClassifier

CHROMIUM = find_chromium()
# Read here, because other tests give the cache another place.
ORT_WEB = Path(os.environ.get("MVP_EDGE_ORT_WEB") or cache_dir() / "onnxruntime-web" / VERSION)
REASON = (
    "no Chromium is installed"
    if CHROMIUM is None
    else f"no onnxruntime-web in {ORT_WEB}; run `mvp-edge export --target web` once or set MVP_EDGE_ORT_WEB"
)
pytestmark = pytest.mark.skipif(CHROMIUM is None or not (ORT_WEB / WASM).is_file(), reason=REASON)


FRAME = "(({ width, height }) => width / height)(document.getElementById('video').getBoundingClientRect())"


class Handler(SimpleHTTPRequestHandler):
    """Serves files from a directory that is isolated, so that threads are allowed."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(str(CHROMIUM), tmp_path_factory.mktemp("profile"))
    page.resize(390, 844, scale=2)
    yield page
    page.close()


@pytest.fixture(scope="module")
def exported(made_result: Path, base_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("web") / "page"
    export_result(
        ExportConfig(made_result, "web", out, ort_web=ORT_WEB, with_dense=True, zoo=str(base_zoo)), SilentProgress()
    )
    return out


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A folder of one's own."""
    return Path(shutil.copytree(exported, tmp_path / "page"))


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """A picture of exactly the model's size, and a larger one; PNG, which every decoder reads alike."""
    root = os.environ.get("MVP_EDGE_DATA")
    if root:
        exact = Image.open(min((Path(root) / "cifar100" / "test" / "orange").iterdir())).convert("RGB")
        larger = Image.open(min((Path(root) / "caltech101" / "test" / "strawberry").iterdir())).convert("RGB")
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        exact, larger = Image.fromarray(pixels), Image.fromarray(pixels).resize((300, 299))
    larger = larger.resize((300, 230), Image.Resampling.LANCZOS)  # wide: every version of Pillow scales it alike
    found = {"exact": tmp_path / "exact.png", "larger": tmp_path / "larger.png"}
    exact.save(found["exact"])
    larger.save(found["larger"])
    return found


def expected(result: Path, picture: Path) -> np.ndarray:
    classifier = OnnxClassifier(result / "model.onnx")
    return classifier.predict(decode(picture, classifier.input_size).transpose(2, 0, 1)[None])[0]


def until(page: Page, condition: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not page.run(condition):
        assert time.monotonic() < end, f"{condition} has not come true within {seconds} s"
        time.sleep(0.05)


def shoot(page: Page, name: str, *, whole: bool = False) -> None:
    if place := os.environ.get("MVP_EDGE_SHOTS"):
        Path(place).mkdir(parents=True, exist_ok=True)
        time.sleep(0.4)  # bars move
        page.screenshot(Path(place) / f"{name}.png", whole=whole)


def test_opened_by_double_click(browser: Page, folder: Path, result: Path, pictures: dict[str, Path]) -> None:
    browser.open((folder / "index.html").as_uri())
    browser.run("mvpEdge.ready.then(() => true)")
    until(browser, "document.getElementById('runs').textContent !== '…'")
    assert browser.run("document.getElementById('camera').disabled") is True
    shoot(browser, "empty")
    for name, path in pictures.items():
        encoded = json.dumps(list(path.read_bytes()))
        logits = browser.run(f"mvpEdge.classify(new Blob([new Uint8Array({encoded})]))")
        wanted = expected(result, path)
        assert int(np.argmax(logits)) == int(wanted.argmax()), name
        np.testing.assert_allclose(logits, wanted, atol=1e-3, err_msg=name)
    before = browser.run("document.getElementById('took').textContent")
    browser.choose_file("#file", pictures["exact"])
    until(browser, f"document.getElementById('took').textContent !== {json.dumps(before)}")
    labels = OnnxClassifier(result / "model.onnx").labels
    best = labels[int(expected(result, pictures["exact"]).argmax())]
    assert browser.run("document.getElementById('best').textContent") == best
    assert browser.run("document.querySelector('#bars .first .name').textContent") == best
    shoot(browser, "phone", whole=True)
    times = browser.run("mvpEdge.addDense()")
    assert [t["title"] for t in times] == ["Pruned", "Whole model"]
    assert all(0 < t["median"] <= t["p95"] and t["samples"] >= 12 for t in times)
    assert "the dense model" in browser.run("document.getElementById('gain').textContent")
    shoot(browser, "phone-dense", whole=True)
    browser.resize(1280, 800, dark=True)
    shoot(browser, "desktop-dark", whole=True)
    browser.resize(1280, 800)
    shoot(browser, "desktop", whole=True)
    browser.resize(390, 844, scale=2)
    assert browser.problems() == []


def test_served_with_threads_and_a_camera(browser: Page, served: str) -> None:
    browser.open(f"{served}/index.html")
    browser.run("mvpEdge.ready.then(() => true)")
    assert browser.run("crossOriginIsolated") is True
    wanted = min(4, int(browser.run("navigator.hardwareConcurrency")))
    assert browser.run("document.getElementById('threads').textContent").startswith(str(wanted))
    until(
        browser, "!document.getElementById('measure').disabled && document.getElementById('runs').textContent !== '…'"
    )
    assert browser.run("document.getElementById('camera').disabled") is False
    browser.run("document.getElementById('camera').click()")
    until(browser, "document.getElementById('camera').getAttribute('aria-pressed') === 'true'")
    until(browser, "!document.getElementById('answer').classList.contains('waiting')")
    assert browser.run(FRAME) == pytest.approx(1)  # the camera's is 4:3, the model's is square
    shoot(browser, "camera")
    browser.run("document.getElementById('camera').click()")
    assert browser.run("document.getElementById('video').srcObject === null") is True
    assert browser.problems() == []


def test_several_pictures_become_a_csv(browser: Page, folder: Path, result: Path, pictures: dict[str, Path]) -> None:
    browser.open((folder / "index.html").as_uri())
    names = ['a "b", c.png', "=1+1.png"]
    files = ", ".join(
        f"new File([new Uint8Array({json.dumps(list(path.read_bytes()))})], {json.dumps(name)})"
        for name, path in zip(names, pictures.values(), strict=True)
    )
    browser.run(f"mvpEdge.classifyFiles([{files}])")
    assert browser.run("document.getElementById('count').textContent") == "2"
    head, *rows = csv.reader(StringIO(browser.run("mvpEdge.csv()")))
    classes = list(OnnxClassifier(result / "model.onnx").labels)
    assert head == ["file", "model", "class", "shows a listed class", *(c.replace("_", " ") for c in classes)]
    assert [row[0] for row in rows] == [names[0], f"'{names[1]}"]  # no formula in a spreadsheet
    for row, path in zip(rows, pictures.values(), strict=True):
        powers = np.exp(expected(result, path))
        assert [float(p) for p in row[4:]] == pytest.approx((powers / powers.sum()).tolist(), abs=1e-3)
        assert row[2] == head[4 + int(powers.argmax())] and row[3] == "yes"
    shoot(browser, "several", whole=True)
    browser.run("document.getElementById('forget').click()")
    assert browser.run("document.getElementById('list').hidden") is True
    assert len(browser.run("mvpEdge.csv()").split()) < 12


def test_a_hundred_runs_are_a_line_for_a_bug_report(browser: Page, folder: Path) -> None:
    browser.open((folder / "index.html").as_uri())
    line = browser.run("mvpEdge.timeHundred()")
    assert line.startswith("mvp-edge ") and "100 runs: median " in line and "HeadlessChrome" in line
    assert browser.run("document.getElementById('line').textContent") == line


def test_the_page_works_without_its_server(browser: Page, folder: Path, pictures: dict[str, Path]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://localhost:{server.server_port}/index.html"
    try:
        browser.open(address)
        assert browser.run("navigator.serviceWorker.ready.then(() => true)") is True
        assert browser.run("document.querySelector('link[rel=manifest]').href").endswith("manifest.webmanifest")
        until(browser, "caches.keys().then((k) => caches.open(k[0])).then((c) => c.keys()).then((k) => k.length >= 4)")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    browser.open(address)
    encoded = json.dumps(list(pictures["exact"].read_bytes()))
    assert browser.run(f"mvpEdge.classify(new Blob([new Uint8Array({encoded})]))") is not None
    assert browser.run("crossOriginIsolated") is True  # the kept page has its headers


def test_a_file_that_is_no_picture(browser: Page, folder: Path) -> None:
    browser.open((folder / "index.html").as_uri())
    assert browser.run("mvpEdge.classify(new Blob(['no picture']))") is None
    assert "is no picture" in browser.run("document.getElementById('problem').textContent")


def test_the_whole_model_is_missing(browser: Page, folder: Path) -> None:
    (folder / "dense.js").unlink()
    browser.open((folder / "index.html").as_uri())
    assert browser.run("mvpEdge.addDense()") is None
    assert "copy the whole folder" in browser.run("document.getElementById('problem').textContent")


def test_the_lines_of_javascript_run(
    browser: Page, served: str, folder: Path, result: Path, pictures: dict[str, Path]
) -> None:
    code = (folder / "README.md").read_text().split("```js\n")[1].split("```")[0]
    for name in (SCRIPT, WASM):
        (folder / name).write_bytes((ORT_WEB / name).read_bytes())
    clear = np.dstack([decode(pictures["exact"], (32, 32)), np.zeros((32, 32), np.uint8)])
    clear[:16, :, 3] = 255  # above opaque, below transparent, so that what was drawn before would shine through
    Image.fromarray(clear).save(folder / "clear.png")
    shutil.copy(pictures["exact"], folder / "opaque.png")
    imports = json.dumps({"imports": {"onnxruntime-web/wasm": f"./{SCRIPT}"}})
    (folder / "own.html").write_text(
        f'<!doctype html><link rel="icon" href="data:,"><script type="importmap">{imports}</script>'
        f'<script type="module">{code}\nglobalThis.classify = classify;</script>'
    )
    browser.open(f"{served}/own.html")
    until(browser, "typeof classify === 'function'")
    labels = OnnxClassifier(result / "model.onnx").labels
    for name in ("opaque.png", "clear.png"):
        found = browser.run(
            f"fetch('{name}').then((r) => r.blob()).then((b) => createImageBitmap(b)).then((b) => classify(b))"
        )
        powers = np.exp(expected(result, folder / name))
        wanted = dict(zip(labels, (powers / powers.sum()).tolist(), strict=True))
        assert {f["label"]: f["probability"] for f in found} == pytest.approx(wanted, abs=1e-3), name
