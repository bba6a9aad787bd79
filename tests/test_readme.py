"""The tables of the pages are what the records say."""

import re
from pathlib import Path

from benchmarks.render import PAGES, TABLES, rendered


def test_tables_agree_with_the_records() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for name in TABLES:
        assert sum(text.count(f"<!-- table {name} -->") for text in texts) == 1, name
    for text in texts:
        assert rendered(text) == text


def test_a_changed_figure_is_noticed() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    assert rendered(text.replace("| IFP, 1000 iterations |", "| IFP, 1001 iterations |")) == text


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for part in page.read_text(encoding="utf-8").split("](")[1:]:
            target, _, heading = part.split(")")[0].partition("#")
            if not target.startswith("http"):
                file = page.parent / target if target else page
                assert file.exists(), target
                assert not heading or heading in headings(file), f"{target}#{heading}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
