"""The page: what is inside, and what class names and files of others cannot do to it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mvp_edge.deploy import web
from mvp_edge.deploy.ort_web import find_ort_web
from mvp_edge.deploy.web import Dense, Embedded, dense_script, render_page
from mvp_edge.export.classifier import Interface

HOSTILE = ("</script><script>alert(1)</script>", "R&D <b>", 'ro"se\\', "日本", "{{ config }}", "sweet_pepper")


class Elements(HTMLParser):
    """The elements with an id, their text, and every reference to another file."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: dict[str, str] = {}
        self.references: list[str] = []
        self.policy = ""
        self.scripts = 0
        self._open: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._open = values.get("id")
        self.scripts += tag == "script"
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""
        if self._open:
            assert self._open not in self.ids, f"two elements are called {self._open}"
            self.ids[self._open] = ""
        self.references += [v for k in ("src", "href") if (v := values.get(k))]

    def handle_data(self, data: str) -> None:
        if self._open:
            self.ids[self._open] += data


def page_of(interface: Interface, fake_ort_web: Path, models: int = 1, dense: bool = False) -> str:
    embedded = [Embedded(f"Model {i}", f"model {i}".encode()) for i in range(models)]
    whole = Dense(b"whole", interface) if dense else None
    return render_page(interface, embedded, whole, find_ort_web(fake_ort_web), [("Cut from", "<base>")])


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


@pytest.fixture
def hostile() -> Interface:
    return Interface("image", "uint8", "NHWC", (24, 32), 1, "logits", HOSTILE)


def test_everything_is_inside(interface: Interface, fake_ort_web: Path) -> None:
    page = page_of(interface, fake_ort_web)
    elements = Elements(page)
    assert elements.references == ["data:,"]
    assert not re.search(r"""(?:src|href|url|import|fetch)\s*[=(]\s*["']?https?:""", page)
    assert unpacked(elements.ids["ort-wasm"]) == b"\0asm fake"
    assert unpacked(elements.ids["ort-script"]) == b"export const fake = '</script>';\n"
    assert unpacked(elements.ids["model-0"]) == b"model 0"
    assert elements.policy.startswith("default-src 'none'; ") and "connect-src" not in elements.policy
    assert "ONNX Runtime Web 9.9.9" in page
    assert "&lt;base&gt;" in page


def test_class_names_do_no_harm(hostile: Interface, fake_ort_web: Path) -> None:
    page = page_of(hostile, fake_ort_web)
    elements = Elements(page)
    config = json.loads(elements.ids["config"])
    assert tuple(config["classes"]) == HOSTILE
    assert elements.scripts == Elements(page_of(hostile, fake_ort_web).replace("alert", "")).scripts == 5
    assert "<script>alert" not in page and "<b>" not in elements.ids["config"]
    assert (config["width"], config["height"], config["layout"], config["dtype"]) == (32, 24, "NHWC", "uint8")
    assert "sweet pepper?" in page
    assert "--aspect: 32 / 24" in page and "rectangle of 32:24" in page


def test_every_element_that_the_script_asks_for_is_there(interface: Interface, fake_ort_web: Path) -> None:
    page = page_of(interface, fake_ort_web, models=2, dense=True)
    asked = set(re.findall(r'part\("([\w-]+)"\)', page))
    assert asked and asked <= set(Elements(page).ids)


def test_a_choice_only_between_several_models(interface: Interface, fake_ort_web: Path) -> None:
    assert page_of(interface, fake_ort_web, models=1).count('type="radio"') == 0
    page = page_of(interface, fake_ort_web, models=2)
    assert page.count('type="radio"') == 2 and unpacked(Elements(page).ids["model-1"]) == b"model 1"


def test_the_whole_model_lies_beside(interface: Interface, fake_ort_web: Path) -> None:
    assert 'id="dense"' not in page_of(interface, fake_ort_web)
    page = page_of(interface, fake_ort_web, dense=True)
    config = json.loads(Elements(page).ids["config"])
    assert 'id="dense"' in page and config["dense"]["file"] == "dense.js" and config["dense"]["input"] == "image"
    script = dense_script(Dense(b"whole", interface))
    name, _, text = script.rstrip(";\n").partition(" = ")
    assert name == "globalThis.mvpEdgeDense" and unpacked(json.loads(text)) == b"whole"


def test_headlines(fake_ort_web: Path) -> None:
    def title(labels: tuple[str, ...]) -> str:
        page = page_of(Interface("i", "float32", "NCHW", (8, 8), 1, "o", labels), fake_ort_web)
        return Elements(page.replace("<h1>", "<h1 id=headline>")).ids["headline"].strip()

    assert title(("cat",)) == "cat?"
    assert title(("cat", "sea_lion", "dog")) == "cat, sea lion or dog?"
    assert title(tuple(f"c{i}" for i in range(100))) == "Which of 100 classes is it?"


def test_the_page_can_be_installed_and_kept() -> None:
    interface = Interface("image", "float32", "NCHW", (8, 8), 1, "logits", ("apple", "pear"))
    dense = Dense(b"", interface)
    files, with_dense = web.app_files("<page>", interface, None), web.app_files("<page>", interface, dense)
    manifest = json.loads(files["manifest.webmanifest"])
    assert manifest["name"] == "Try it: apple or pear?" and manifest["start_url"] == "index.html"
    assert {icon["src"] for icon in manifest["icons"]} <= files.keys()
    kept = json.loads(files["worker.js"].split("const FILES = ")[1].split(";")[0])
    assert set(kept) == {"./", "index.html", "manifest.webmanifest", "icon.svg"}
    assert "dense.js" in with_dense["worker.js"] and "{{" not in files["worker.js"]
    other = web.app_files("<another page>", interface, None)["worker.js"]
    assert other != files["worker.js"]  # a new page replaces the one that a browser keeps
