"""The README's tables are what the records say."""

from benchmarks.render import README, TABLES, rendered


def test_tables_agree_with_the_records() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f"<!-- table {name} -->" in text for name in TABLES)
    assert rendered(text) == text


def test_a_changed_figure_is_noticed() -> None:
    text = README.read_text(encoding="utf-8")
    assert rendered(text.replace("| IFP, 1000 iterations |", "| IFP, 1001 iterations |")) == text
