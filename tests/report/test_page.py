import re
from pathlib import Path

from mvp_edge.report import Extras, Report, render_html
from tests.report.example import example_report, example_units


def test_no_line_of_the_page_ends_between_a_number_and_its_unit(tmp_path: Path) -> None:
    render_html(Report.from_json(example_report()), example_units(), Extras(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"\d (?:%|ms\b|KiB)", page) == []
    for part in ("91.6\N{NO-BREAK SPACE}%", "419\N{NO-BREAK SPACE}KiB", "7.25\N{NO-BREAK SPACE}M"):
        assert part in page
