"""The tables of the pages are what the records say."""

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


def test_pictures_are_there() -> None:
    for page in PAGES:
        for part in page.read_text(encoding="utf-8").split("](")[1:]:
            target = part.split(")")[0].split("#")[0]
            assert not target or target.startswith("http") or (page.parent / target).exists(), target
