from __future__ import annotations

from typing import Any

import pytest

from cli.tables import show_report, show_support, versus, warn
from mvp_edge.models.support import Support
from mvp_edge.report import Report
from tests.report.example import example_report


def report(**more: Any) -> dict[str, Any]:
    """Return a report as `prune` shows it."""
    return (
        example_report()
        | {
            "base_accuracy": None,
            "names": [],
            "estimate": None,
            "known": None,
            "body": None,
            "sizes": [],
            "origin": "vote",
        }
        | more
    )


@pytest.mark.parametrize(
    ("measure", "scale"), [("wordnet", "WordNet similarity (1 is best)"), ("leep", "LEEP (0 is best)")]
)
def test_members_are_told_with_what_makes_them_near(
    measure: str, scale: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = report()
    made["settings"]["vote"]["similarity"] = measure
    show_report(Report.from_json(made))
    out = " ".join(capsys.readouterr().out.split())
    assert (
        f"voters nearest by {scale} -0.31 generalist, keep 0.1, all 100 classes -0.74 apple, cup, pear, rose, whale"
        in out
    )
    assert "aquarium_fish" not in out


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (500, "91.6 % of 500 test images; base 96.2 %"),
        (200, "91.6 % of 500 test images; on 200 of them 93.0 %, base 96.2 %"),
    ],
)
def test_the_base_is_told_with_the_model_on_the_same_images(
    n: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_report(Report.from_json(report(base_accuracy={"top1": 96.2, "n": n, "model_top1": 93.0})))
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        (0.5, "50 % of the way: balanced accuracy 80.0 % before, 84.0 % after, on 40 held-out images"),
        (0.0, "tried, and not kept: balanced accuracy 80.0 % before, 84.0 % after, on 40 held-out images"),
    ],
)
def test_training_is_told_whether_it_was_kept_or_not(
    weight: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = [{"weight": w, "loss": 0.5, "top1": t} for w, t in ((0.0, 80.0), (0.5, 84.0))]
    steps = {"weight": weight, "images": 40, "folds": 1, "held_out": held_out}
    show_report(Report.from_json(report(interpolation=steps)))
    assert f"fine-tuned {said}" in " ".join(capsys.readouterr().out.split())


def test_many_warnings_and_names_are_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    name = {"name": "x", "synset": None, "meaning": "", "classes": ["a"], "taken": {}, "coverage": 1.0, "note": ""}
    show_report(Report.from_json(report(names=[name | {"name": f"n{i}", "near": []} for i in range(100)])))
    out = capsys.readouterr().out
    assert "n29: a" in out and "n30: a" not in out and "and 70 more, in report.json" in out
    warn(f"w{i}" for i in range(50))
    told = capsys.readouterr().err
    assert "w19" in told and "w20" not in told and "and 30 more" in told


def test_a_precision_is_told_with_its_paired_time_only(capsys: pytest.CaptureFixture[str]) -> None:
    made = report()
    small = made["precisions"]["files"][1]
    small["latency_ms"]["median"] = 0.648
    show_report(Report.from_json(made))
    out = " ".join(capsys.readouterr().out.split())
    assert "int8 kept: 91.4 %, 133 KiB; top-1 is 0.20 points lower; 0.80 times the time" in out and "0.648" not in out
    small |= {"kept": False, "top1": None, "bytes": None, "latency_ms": None, "reasons": ["no images"]}
    show_report(Report.from_json(made))
    assert "int8 not made: no images" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("ratio", "quartiles", "text"),
    [
        (1 / 51.6, (1 / 52, 1 / 51.2), "51.6\N{MULTIPLICATION SIGN} faster (51.2 to 52.0)"),
        (1.02, (1.01, 1.03), "1.02\N{MULTIPLICATION SIGN} slower (1.01 to 1.03)"),
        (1.2, None, "1.20\N{MULTIPLICATION SIGN} the time (no range)"),
        (0.8, None, "0.800\N{MULTIPLICATION SIGN} the time (no range)"),
        (1.02, (0.99, 1.03), "1.02\N{MULTIPLICATION SIGN} the time (0.990 to 1.03)"),
        (0.98, (0.97, 1.0), "0.980\N{MULTIPLICATION SIGN} the time (0.970 to 1.00)"),
        (1.0, (1.0, 1.0), "1.00\N{MULTIPLICATION SIGN} the time (1.00 to 1.00)"),
        (None, None, "- (machine too busy)"),
    ],
)
def test_a_ratio_of_times_in_words(ratio: float | None, quartiles: tuple[float, float] | None, text: str) -> None:
    assert versus(ratio, quartiles) == text


def test_layers_that_stay_whole_have_their_share_of_all_multiply_adds(capsys: pytest.CaptureFixture[str]) -> None:
    whole = {"head": 150, "pool": 50}
    show_support(Support("net", (64, 64), 3, {}, params_share=0.9, macs_share=0.8, whole=whole, difference=0.0))
    assert "head 15.0%, pool 5.0%" in capsys.readouterr().out
