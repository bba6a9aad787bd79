import re
from pathlib import Path

import numpy as np
import pytest

from mvp_edge.report import Extras, Report, Sample, image_uri, render_html
from tests.report.example import example_report, example_units


def test_no_line_of_the_page_ends_between_a_number_and_its_unit(tmp_path: Path) -> None:
    render_html(Report.from_json(example_report()), example_units(), Extras(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"\d (?:%|ms\b|KiB)", page) == []
    for part in ("91.6\N{NO-BREAK SPACE}%", "419\N{NO-BREAK SPACE}KiB", "7.25\N{NO-BREAK SPACE}M"):
        assert part in page


def test_images_and_the_surest_mistakes(tmp_path: Path) -> None:
    uri = image_uri(np.zeros((3, 4, 4), np.uint8))
    error = Sample(uri, "apple", "pear", 0.97, "IMG_7.png")
    extras = Extras(errors=(error,), copies=((uri, uri),))
    render_html(Report.from_json(example_report()), example_units(), extras, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (
        "Surest mistakes",
        "IMG_7.png",
        "3,104 files",
        "104",
        "The same image has two classes",
        "train/pear/9",
    ):
        assert text in page
    assert page.count(uri) == 3
    render_html(Report.from_json(example_report()), example_units(), Extras(), tmp_path / "bare.html")
    assert "data:image/png" not in (tmp_path / "bare.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("count", "letters", "upright"), [(6, 7, False), (7, 7, True), (6, 8, True)])
def test_headings_that_do_not_fit_side_by_side_stand_upright(
    count: int, letters: int, upright: bool, tmp_path: Path
) -> None:
    names = [f"{k}".ljust(letters, "x") for k in range(count)]
    report = example_report()
    report["task"] |= {"classes": names, "synsets": [None] * count}
    report["accuracy"] |= {"confusion": np.eye(count, dtype=int).tolist(), "per_class": dict.fromkeys(names, 100.0)}
    render_html(Report.from_json(report), example_units(), Extras(), tmp_path / "report.html")
    assert ('class="heat upright"' in (tmp_path / "report.html").read_text(encoding="utf-8")) == upright
