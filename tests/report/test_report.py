from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mvp_edge.config import Similarity
from mvp_edge.core.errors import ExportError
from mvp_edge.report import Extras, Report, Sample, figures, image_uri, render_html, write_json
from mvp_edge.report.record import LatencyRecord
from mvp_edge.report.sections import STAGES
from tests.report.example import example_report, example_samples, example_units

COMMAND = "mvp-edge prune --task classes.txt --data cifar100"


def render(
    tmp_path: Path, report: dict[str, Any], units: dict[str, list[int]] | None = None, extras: Extras | None = None
) -> str:
    path = tmp_path / "report.html"
    record, units = Report.from_json(report), example_units() if units is None else units
    render_html(record, units, extras or Extras(example_samples(), COMMAND), path)
    return path.read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Checks that every element is closed, and collects the visible text."""

    void = ("meta", "link", "img", "wbr", "path", "rect", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def text_of(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    return " ".join(" ".join(parser.text).split())


def test_every_stage_that_is_timed_has_a_bar() -> None:
    sources = [p.read_text(encoding="utf-8") for p in Path(figures.__file__).parents[1].rglob("*.py")]
    timed = [name for text in sources for name in re.findall(r"clock\.time\((.*?)\)", text)]
    assert len(timed) > 10 and {f'"{stage}"' for stage in STAGES if stage != "start"} == set(timed)


def test_page_holds_the_numbers(tmp_path: Path) -> None:
    text = text_of(render(tmp_path, example_report()))
    for part in (
        "mvp-edge report: apple, orange, pear, mushroom, sweet_pepper",
        "91.6 % 500 real test images",
        "cifar100, test split; 95 % interval 88.8 to 93.7 %, chance 20.0 %",
        "419 KiB 105\N{MULTIPLICATION SIGN} smaller",
        "7.25 M 77\N{MULTIPLICATION SIGN} fewer",
        "0.226 ms 43\N{MULTIPLICATION SIGN} faster",
        "1 CPU thread",
        "and 88 more",
        "\N{MINUS SIGN}0.740",
        "48 of 512",
        "sweet_pepper taken for orange (6)",
        "IQR 0.41 ms, p95 10.6 ms",
        "fine-tune 9.40 s",
        "Largest error of ONNX 6.0e\N{MINUS SIGN}07 at most",
        "packages.torch 2.15.0",
        "weights.safetensors",
        COMMAND,
        "Warnings",
        "INT8 kept model-int8.onnx",
        "INT8 kept: top-1 is 0.20 points lower; 0.80 times the time and 0.32 times the bytes of float32",
        "133 KiB",
        "46 nodes of 4 operators; 419 KiB, 1.025 times the bytes of its weights",
        "Conv 20",
    ):
        assert part in text


def test_terminal_and_page_write_alike() -> None:
    assert figures.percent(84) == "84.0 %" and figures.percent(73.6) == "73.6 %"
    assert figures.percent(None) == figures.UNKNOWN
    assert figures.threads(1) == "1 CPU thread" and figures.threads(2) == "2 CPU threads"


def test_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    page = render(tmp_path, example_report())
    targets = re.findall(r"""(?:src|href)\s*=\s*["']?([a-z]*:?)""", page)
    assert set(targets) == {"data:"}
    # Named first: pytest would spend minutes on explaining a difference in so long a text.
    found = [part for part in ("http://", "https://", "url(", "@import", "<script") if part in page]
    assert found == []


def test_page_is_accessible(tmp_path: Path) -> None:
    page = render(tmp_path, example_report())
    assert page.count("<table") == page.count("<caption")
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", page))
    assert all("aria-label=" in tag for tag in re.findall(r"<svg[^>]*>", page))
    for target in re.findall(r'aria-labelledby="(\w+)"', page):
        assert page.count(f'id="{target}"') == 1


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    report = json.loads(json.dumps(example_report()).replace("mushroom", evil.replace('"', '\\"')))
    report["warnings"] = [evil]
    report["environment"][evil] = evil
    sample = Sample(image_uri(np.zeros((3, 4, 4), np.uint8)), evil, evil, 0.5)
    page = render(tmp_path, report, extras=Extras((sample,), evil))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 8
    text_of(page)


def test_an_accuracy_that_is_unknown_is_shown_as_such(tmp_path: Path) -> None:
    report: dict[str, Any] = example_report() | {"warnings": []}
    report["accuracy"] |= {"top1": None, "n": 0, "interval": None, "per_class": {}, "confusion": []}
    text = text_of(render(tmp_path, report, {}, Extras()))
    assert text.count("not measured") == 1
    for heading in ("Warnings", "Confusions", "Sample predictions"):
        assert heading not in text


def test_a_dropped_precision_is_shown_with_its_reasons(tmp_path: Path) -> None:
    report = example_report()
    report["precisions"]["files"][1] |= {"kept": False, "passed": False, "reasons": ["top-1 is 3.00 points lower", "b"]}
    assert "INT8 dropped: top-1 is 3.00 points lower; b." in text_of(render(tmp_path, report))
    unmade = {"kept": False, "top1": None, "bytes": None, "latency_ms": None, "time_ratio": None}
    report["precisions"]["files"][1] |= unmade | {"reasons": ["cannot be quantised"]}
    text = text_of(render(tmp_path, report))
    assert "INT8 not made: cannot be quantised." in text
    report["precisions"]["files"][1] |= {"kept": True, "passed": False}
    assert "kept as requested" in text_of(render(tmp_path, report))
    del report["precisions"]["files"][1]
    assert "Precision" not in text_of(render(tmp_path, report))


def test_a_member_that_is_delivered_as_it_is_has_no_story_of_a_vote(tmp_path: Path) -> None:
    report = example_report()
    voted = text_of(render(tmp_path, report))
    for part in (
        "Who voted",
        "They chose the units to keep",
        "vote.neighbours 5",
        "fit.lr",
        "Nominal training cost 0.427",
    ):
        assert part in voted
    report |= {"origin": "ready-made", "method": "a ready-made generalist, as it is", "data": None}
    report |= {"nominal_training_tflops": 0.0, "voters": report["voters"][:1]}
    report["settings"]["fit"]["iterations"] = 0
    report["seconds"] |= {"evaluate": 0.0, "fine_tune": 0.004}
    text = text_of(render(tmp_path, report))
    for part in (
        "(requested: 10.0 %): a ready-made generalist, as it is , in 21.3 s",
        "Which member it is",
        "delivered as it is",
        "Data none: from the names of the classes",
        "vote.keep 0.1",
    ):
        assert part in text
    for part in (
        "voted",
        "They chose",
        "vote.neighbours",
        "vote.channel_multiple",
        "fit.",
        "Nominal",
        "fine-tune",
        "0.00 s",
        "None",
    ):
        assert part not in text
    report |= {"origin": "member", "data": "photos"}
    report["settings"]["fit"]["iterations"] = 100
    text = text_of(render(tmp_path, report))
    for part in ("voted alone", "its weights are the initial ones", "fit.lr", "vote.channel_multiple 8", "Data photos"):
        assert part in text


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (500, "the base scores 96.2 %, restricted to these classes;"),
        (100, "on 100 of them the base scores 96.2 % and this model 93.0 %, restricted to these classes;"),
    ],
)
def test_the_base_is_scored_beside_the_model(tmp_path: Path, n: int, said: str) -> None:
    assert "the base scores" not in text_of(render(tmp_path, example_report()))
    base = {"top1": 96.2, "n": n, "model_top1": 93.0}
    assert said in text_of(render(tmp_path, example_report() | {"base_accuracy": base}))


def test_the_accuracy_before_fine_tuning_is_told(tmp_path: Path) -> None:
    report = example_report()
    assert "before fine-tuning" not in text_of(render(tmp_path, report))
    report["accuracy"]["top1_before"] = 84.0
    assert "before fine-tuning 84.0 %; cifar100, test split" in text_of(render(tmp_path, report))


def test_other_sizes_are_shown_with_what_to_type(tmp_path: Path) -> None:
    report = example_report()
    small = {"member": "small", "flag": "--keep 0.05", "keep": 0.05, "achieved": 0.0583, "top1": 73.6}
    this = {"member": report["voters"][0]["id"], "flag": "--keep 0.1", "keep": 0.1, "achieved": 0.1, "top1": 84.0}
    text = text_of(render(tmp_path, report | {"sizes": [small, this]}))
    assert "--keep 0.05 5.8 % 73.6 % --keep 0.1 this one 10.0 % 84.0 %" in text
    for none in ([], [this]):
        assert "Other sizes" not in text_of(render(tmp_path, report | {"sizes": none}))


def test_what_is_unknown_has_no_bar(tmp_path: Path) -> None:
    report = example_report()
    known = render(tmp_path, report).count('class="fill"')
    report["precisions"]["files"][1] |= {"top1": None, "bytes": None, "latency_ms": None, "time_ratio": None}
    assert render(tmp_path, report).count('class="fill"') == known - 3
    report["accuracy"]["top1"] = None  # the card's bar, and one for each class
    assert render(tmp_path, report).count('class="fill"') == known - 3 - 6


def test_figures_of_settings_and_the_similarity_are_readable(tmp_path: Path) -> None:
    report = example_report()
    report["settings"]["fit"]["lr"] = 0.03 / 3 - 1e-18
    text = text_of(render(tmp_path, report))
    assert "Similarity, LEEP" in text and "0.01" in text and "0.00999" not in text


def test_many_classes(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(30)]
    confusion = np.diag(np.arange(30) + 5)
    confusion[3, 4] = 7
    confusion[9] = 0
    report = example_report()
    report["task"] |= {"classes": names, "synsets": [None] * 30}
    report["accuracy"] |= {"confusion": confusion.tolist(), "per_class": dict.fromkeys(names, 50.0) | {"class 9": None}}
    page = render(tmp_path, report)
    assert "class 7 and 22 more" in text_of(page)
    assert "class 9 no image" in text_of(page)
    assert page.count("<rect") == 30
    assert '<rect class="wrong" x="4" y="3"' in page


def test_slower_model_is_called_slower(tmp_path: Path) -> None:
    report = example_report()
    report["latency_ms"] |= {"pruned": {"median": 19.32, "iqr": 0.2, "p95": 20.0}, "threads": 2}
    text = text_of(render(tmp_path, report))
    assert "2.0\N{MULTIPLICATION SIGN} slower" in text
    assert "2 CPU threads" in text


def test_weighed_base_file_counts(tmp_path: Path) -> None:
    report = example_report()
    report["bytes"]["dense_onnx"] = 10 * report["bytes"]["onnx"]
    assert "10\N{MULTIPLICATION SIGN} smaller" in text_of(render(tmp_path, report))


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    record = Report.from_json(example_report())
    with pytest.raises(ExportError, match="cannot be written"):
        write_json(record, tmp_path / "none" / "report.json")
    with pytest.raises(ExportError, match="cannot be written"):
        render_html(record, {}, Extras(), tmp_path / "none" / "report.html")


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_image_uri_is_lossless(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    head, data = image_uri(pixels if kind == "array" else torch.from_numpy(pixels)).split(",")
    assert head == "data:image/png;base64"
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(found, pixels.transpose(1, 2, 0))


@pytest.mark.parametrize("image", [np.zeros((3, 4, 4)), np.zeros((4, 4, 3), np.uint8), np.zeros((3, 4), np.uint8)])
def test_image_uri_refuses_others(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="is required"):
        image_uri(image)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.2264, "0.226"), (9.664, "9.66"), (58.3, "58.3"), (1234.5, "1,234"), (-1.5, "\N{MINUS SIGN}1.50")],
)
def test_significant(value: float, text: str) -> None:
    assert figures.significant(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (999, "999"), (7_245_296, "7.25 M"), (1.258e9, "1.26 G")])
def test_quantity(value: float, text: str) -> None:
    assert figures.quantity(value) == text


@pytest.mark.parametrize(("value", "text"), [(900, "900 bytes"), (428_833, "419 KiB"), (44_900_000, "42.8 MiB")])
def test_storage(value: float, text: str) -> None:
    assert figures.storage(value) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (9.66, 0.226, "43\N{MULTIPLICATION SIGN} faster"),
        (3, 2, "1.5\N{MULTIPLICATION SIGN} faster"),
        (2, 3, "1.5\N{MULTIPLICATION SIGN} slower"),
        (1, 1, "1.0\N{MULTIPLICATION SIGN} faster"),
    ],
)
def test_gain(before: float, after: float, text: str) -> None:
    assert figures.gain(before, after, "faster", "slower") == text


def test_gain_without_a_base() -> None:
    assert figures.gain(0, 5, "smaller", "larger").startswith("no ratio")


@pytest.mark.parametrize(
    ("kept", "path"),
    [([], ""), ([0], "M0 0h1v1h-1z"), ([2, 3, 4, 9], "M2 0h3v1h-3zM9 0h1v1h-1z"), ([0, 2], "M0 0h1v1h-1zM2 0h1v1h-1z")],
)
def test_stripes(kept: list[int], path: str) -> None:
    assert figures.stripes(kept) == path


@pytest.mark.parametrize(
    ("measure", "values", "lengths"),
    [
        ("wordnet", [1.0, 0.25, 0.0], [100, 25, 0]),
        ("wordnet", [0.0], [0]),
        ("leep", [0.0, -0.6931472, -50], [100, 50, 0]),
        ("leep", [0.0], [100]),
        ("leep", [], []),
    ],
)
def test_similarity_of_either_kind(measure: Similarity, values: list[float], lengths: list[float]) -> None:
    assert figures.similarity_lengths(values, measure) == pytest.approx(lengths, abs=0.01)


def test_whiskers_stay_inside() -> None:
    dense, pruned = (LatencyRecord(median=m, iqr=q, p95=9.0) for m, q in ((8.0, 4.0), (1.0, 3.0)))
    dense, pruned = figures.latency_bars({"d": dense, "p": pruned})
    assert (dense.length, dense.whisker) == (80, (60, 40))
    assert (pruned.length, pruned.whisker) == (10, (0, 30))


def test_worst_confusions_come_first() -> None:
    found = figures.worst_confusions([[5, 1, 2], [4, 9, 0], [0, 0, 7]], ["a", "b", "c"], most=2)
    assert [(c.true, c.predicted, c.count) for c in found] == [("b", "a", 4), ("a", "c", 2)]
