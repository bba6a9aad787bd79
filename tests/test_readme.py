"""The pages: tables agree with records, links lead somewhere, the site builds, and what they name exists."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import mvp_edge
from benchmarks import rooms
from benchmarks.render import PAGES, TABLES, rendered

ROOT = Path(__file__).parents[1]
LENGTH = 200  # lines of the README
TEXTS = (*PAGES, ROOT / "CONTRIBUTING.md")


def test_tables_agree_with_the_records() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for name in TABLES:
        assert sum(text.count(f"<!-- table {name} -->") for text in texts) == 1, name
    for text in texts:
        assert rendered(text) == text


def test_changed_figures_are_noticed() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        changed, tables = re.subn(r"(<!-- table .* -->\n)", r"\g<1>0", text)
        assert rendered(changed) == text
        assert changed != text or not tables


def test_the_readme_is_short() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LENGTH
    for marker in ("run", "run with images", "tests"):
        assert text.count(f"<!-- {marker} -->\n```bash\n") == 1


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for part in page.read_text(encoding="utf-8").split("](")[1:]:
        target, _, heading = part.split(")")[0].partition("#")
        if not target.startswith("http"):
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not heading or heading in _headings(file), f"{target}#{heading}"


def _headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_site_builds_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|link|img|iframe)[^>]* (src|href)="(https?:)?//', text), page


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_named_code_exists(page: Path) -> None:
    for name in set(re.findall(r"\bmvp_edge(?:\.\w+)+", page.read_text(encoding="utf-8"))):
        _find(name)
    for name in set(re.findall(r"`((?:mvp_edge|cli|benchmarks|tests)/[\w./-]*)`", page.read_text(encoding="utf-8"))):
        assert (ROOT / name).exists(), name


def test_walks_through_the_code_are_in_file_order() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    walks = [part for part in text.split("\n## ") if part.splitlines()[0].endswith("on its way through the code")]
    assert len(walks) == 2
    for walk in walks:
        lines: dict[str, list[int]] = {}
        for name in re.findall(r"\bmvp_edge(?:\.\w+)+", walk):
            code = _find(name)
            if inspect.isfunction(code) and code.__qualname__ == code.__name__:
                lines.setdefault(code.__module__, []).append(code.__code__.co_firstlineno)
        assert sum(map(len, lines.values())) >= 10
        for module, starts in lines.items():
            assert starts == sorted(starts), module


def _find(name: str) -> Any:
    """Return the module or the attribute of one that a dotted name stands for."""
    found: Any = mvp_edge
    for depth, part in enumerate(name.split(".")[1:], 2):
        found = getattr(found, part, None) or import_module(".".join(name.split(".")[:depth]))
    return found


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == mvp_edge.__version__


def test_rooms_are_counted() -> None:
    sources = {
        "mvp_edge": "",
        "mvp_edge.core": "\n",
        "mvp_edge.data": "",
        "mvp_edge.data.images": "from mvp_edge.core import errors\nfrom mvp_edge.data import folder\n",
        "mvp_edge.prune": "def late():\n    import mvp_edge.data.images\n",
        "cli": "from mvp_edge import __version__, prune\nfrom .options import shared\n",
    }
    found = rooms.count(sources)
    assert found.floors == (("core", "mvp_edge"), ("data",), ("prune",), ("cli",))
    assert found.arrows == {("data", "core"), ("prune", "data"), ("cli", "prune"), ("cli", "mvp_edge")}
    assert found.summary()["lines_by_room"] == {"cli": 2, "core": 1, "data": 2, "prune": 2}
    with pytest.raises(ValueError, match="circle"):
        rooms.count(sources | {"mvp_edge.core": "import mvp_edge.prune"})


@pytest.mark.slow
def test_recorded_counts_of_rooms_are_true() -> None:
    for record in _known_commits():
        assert rooms.count(rooms.sources(record["commit"])).summary() == {
            k: v for k, v in record.items() if k != "commit"
        }


def test_rooms_floors_and_arrows_are_those_recorded() -> None:
    here, last = rooms.count(rooms.sources()).summary(), rooms.recorded()[-1]
    for figure in ("rooms", "floors"):
        assert here[figure] == last[figure], f"{figure}: record them with python -m benchmarks.rooms --record"
    assert here["arrows"] <= last["arrows"]


def test_the_page_of_rooms_shows_their_floors() -> None:
    text = (ROOT / "docs" / "rooms.md").read_text(encoding="utf-8")
    shown = {name: int(floor) for floor, name in re.findall(r"^\| (\d+) \| `(\w+)/` \|", text, re.MULTILINE)}
    floors = enumerate(rooms.count(rooms.sources()).floors, 1)
    assert shown == {name: number for number, floor in floors for name in floor if name != "mvp_edge"}


def _known_commits() -> Iterator[dict[str, Any]]:
    """Yield the records whose commits this checkout has; a copy without git has none."""
    for record in rooms.recorded():
        known = subprocess.run(
            ["git", "cat-file", "-e", f"{record['commit']}^{{commit}}"], cwd=ROOT, capture_output=True
        )
        if known.returncode == 0:
            yield record
