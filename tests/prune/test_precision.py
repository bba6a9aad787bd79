from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mvp_edge.config import Precision
from mvp_edge.core.errors import ExportError
from mvp_edge.data import ImageSet
from mvp_edge.export import export_onnx
from mvp_edge.prune import precision
from mvp_edge.prune.fit import Unseen
from mvp_edge.prune.gate import (
    JUDGED_IMAGES,
    MAX_DROP,
    NOT_SLOWER,
    SAVED_BYTES,
    Candidate,
    Scores,
    Verdict,
    failed_gate,
    judge,
)
from mvp_edge.prune.precision import compare, judge_precision, make_precision, scores_of
from mvp_edge.report.record import PrecisionRecord
from mvp_edge.timing.latency import Contender, time_in_turns

FULL, SMALL = 425_000, 136_000
SAME = Scores(92.0, 92.0, 500)


def test_faster_and_accurate_is_kept() -> None:
    verdict = judge(Scores(92.0, 91.8, 500), FULL, 420_000, 0.8)
    assert verdict.passed
    assert verdict.reasons[0] == "top-1 is 0.20 points lower on 500 images held out of training"
    assert verdict.reasons[1].startswith("0.80 times the time and 0.99 times the bytes")


@pytest.mark.parametrize(
    ("held_out", "passed", "words"),
    [
        (SAME, True, "the same"),
        (Scores(92.0, 93.5, 500), True, "1.50 points higher"),
        (Scores(92.0, 92 - MAX_DROP + 0.01, 500), True, "0.99 points lower"),
        (Scores(92.0, 92 - MAX_DROP, 500), False, "less than 1 is allowed"),
        (Scores(92.0, 80.0, 500), False, "12.00 points lower"),
        (Scores(92.0, 92.0, JUDGED_IMAGES), True, "the same"),
        (Scores(92.0, 92.0, JUDGED_IMAGES - 1), False, "24 images were held out"),
        (24, False, "24 images were held out of training at a time"),
        (0, False, "no images were held out"),
    ],
)
def test_accuracy_decides(held_out: Scores | int, passed: bool, words: str) -> None:
    verdict = judge(held_out, FULL, SMALL, 0.8)
    assert verdict.passed is passed
    assert words in verdict.reasons[0]


@pytest.mark.parametrize(
    ("size", "ratio", "passed"),
    [
        (425_000, 0.9, True),
        (425_000, 0.91, False),
        (446_000, 0.5, True),  # faster, and hardly more bytes
        (446_251, 0.5, False),  # faster, but more bytes
        (136_000, NOT_SLOWER, True),  # smaller at the same time
        (136_000, NOT_SLOWER + 0.01, False),  # smaller, but slower
        (300_000, 1.0, False),  # not small enough
        (425_000 - SAVED_BYTES, 1.0, False),  # saves enough bytes, not enough of its own
    ],
)
def test_time_and_size_decide(size: int, ratio: float, passed: bool) -> None:
    verdict = judge(SAME, FULL, size, ratio)
    assert verdict.passed is passed
    assert ("needed" in verdict.reasons[1]) is not passed


def test_a_few_kilobytes_are_not_worth_a_file() -> None:
    assert not judge(SAME, 90_000, 30_000, 1.0).passed


LABELS = ("apple", "pear")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 96, 3, padding=1)]
        net = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 2)).eval()
    path = tmp_path / "model.onnx"
    norm = (0.5, 0.5, 0.5)
    export_onnx(net, path, input_size=(16, 16), mean=norm, std=norm, labels=LABELS, metadata={})
    return path


@pytest.fixture
def images() -> ImageSet:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16), dtype=np.uint8))
    return ImageSet(pixels, torch.arange(20) % 2, LABELS)


def verdict(monkeypatch: pytest.MonkeyPatch, passed: bool) -> None:
    monkeypatch.setattr("mvp_edge.prune.gate.judge", lambda *_: Verdict(passed, ("top-1 so", "time so")))


def tried(file: Path, wanted: Precision, images: ImageSet) -> tuple[PrecisionRecord, ...]:
    made = make_precision(file, wanted, images.images, seed=0)
    assert isinstance(made, Candidate)
    timings = time_in_turns([Contender(file), Contender(made.path)], rounds=2)
    scores = scores_of(file, made.path, images)
    return judge_precision(file, wanted, made, timings, scores, scores)


def test_auto_keeps_what_earns_its_place(file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict(monkeypatch, True)
    full, small = tried(file, "auto", images)
    assert (full.precision, full.kept, full.time_ratio) == ("fp32", True, 1.0)
    assert (small.precision, small.file, small.kept) == ("int8", "model-int8.onnx", True)
    assert small.bytes == file.with_name("model-int8.onnx").stat().st_size
    assert full.top1 is not None and small.top1 is not None
    assert small.latency_ms is not None and small.latency_ms.median > 0
    assert failed_gate([full, small]) == []


def test_auto_drops_what_does_not_and_tells_both_figures(
    file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict(monkeypatch, False)
    full, small = tried(file, "auto", images)
    assert [p.name for p in file.parent.iterdir()] == ["model.onnx"]
    assert (full.kept, small.kept, small.reasons) == (
        True, False, ("top-1 so; add images, or take it unchecked with --precision int8", "time so")
    )  # fmt: skip
    assert small.top1 is not None and small.bytes and small.latency_ms


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_what_is_asked_for_stays_with_a_warning(
    file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    verdict(monkeypatch, False)
    variants = tried(file, precision, images)
    assert file.with_name(f"model-{precision}.onnx").is_file()
    assert (variants[1].kept, variants[1].passed) == (True, False)
    assert failed_gate(variants) == [
        f"model-{precision}.onnx was requested, but does not pass the accuracy and size gate: top-1 so; time so",
    ]


def test_fp32_makes_nothing(file: Path, images: ImageSet) -> None:
    made = make_precision(file, "fp32", images.images, seed=0)
    (only,) = judge_precision(file, "fp32", made, [], 0, None)
    assert only.to_json() == {
        "precision": "fp32",
        "file": "model.onnx",
        "kept": True,
        "passed": True,
        "reasons": (),
        "top1": None,
        "bytes": None,
        "latency_ms": None,
        "time_ratio": None,
    }
    assert [p.name for p in file.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("calibration", [None, torch.zeros(0, 3, 16, 16, dtype=torch.uint8)])
def test_without_calibration_images(file: Path, calibration: torch.Tensor | None) -> None:
    _, small = judge_precision(file, "auto", make_precision(file, "auto", calibration, seed=0), [], 0, None)
    assert (small.kept, small.bytes) == (False, None)
    assert "--data" in small.reasons[0]
    with pytest.raises(ExportError, match="needs images to calibrate"):
        make_precision(file, "int8", calibration, seed=0)
    assert isinstance(make_precision(file, "fp16", calibration, seed=0), Candidate)


@pytest.mark.parametrize(("held_out", "test", "kept"), [(80.0, 92.0, False), (92.0, 80.0, True), (None, 92.0, False)])
def test_test_images_decide_nothing(
    file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch, held_out: float | None, test: float, kept: bool
) -> None:
    """Not even where they say the opposite of what images held out of training say."""
    monkeypatch.setattr("mvp_edge.prune.gate.SMALLER", 1.0)
    monkeypatch.setattr("mvp_edge.prune.gate.SAVED_BYTES", 0)
    monkeypatch.setattr("mvp_edge.prune.gate.NOT_SLOWER", 1e9)
    made = make_precision(file, "auto", images.images, seed=0)
    assert isinstance(made, Candidate)
    timings = time_in_turns([Contender(file), Contender(made.path)], rounds=2)
    decided = 0 if held_out is None else Scores(92.0, held_out, 100)
    full, small = judge_precision(file, "auto", made, timings, decided, Scores(92.0, test, 100))
    assert (small.kept, made.path.exists()) == (kept, kept)
    assert (full.top1, small.top1) == (92.0, test)


def test_a_network_that_stands_in_but_cannot_be_converted_ends_the_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.zeros(2 * JUDGED_IMAGES, 3, 4, 4, dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.long), ("a", "b"))
    own = Candidate("int8", tmp_path / "model-int8.onnx")
    own.path.write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise ExportError("an operator is not supported")

    monkeypatch.setattr(precision, "quantise_int8", refuse)
    unseen = Unseen(images.subset(range(JUDGED_IMAGES)), images.subset(range(JUDGED_IMAGES, 2 * JUDGED_IMAGES)), {})
    given = tmp_path / "model.onnx", "auto", own, [], unseen, None, lambda _: tmp_path / "other.onnx", 0
    full, small = compare(*given)
    assert full.kept and not small.kept and small.reasons == ("an operator is not supported",)
    assert not own.path.exists()
    with pytest.raises(ExportError, match="not supported"):
        compare(given[0], "int8", *given[2:])


@pytest.mark.parametrize("seen", [False, True])
def test_files_are_compared_that_have_not_learned_from_the_images(
    seen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the delivered network has seen them, the one that has not is written, converted and judged."""
    pixels = torch.zeros(2 * JUDGED_IMAGES, 3, 4, 4, dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.long), ("a", "b"))
    held, rest = images.subset(range(JUDGED_IMAGES)), images.subset(range(JUDGED_IMAGES, len(images)))
    file, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    own, its = Candidate("int8", tmp_path / "own.onnx"), Candidate("int8", tmp_path / "its.onnx")
    state, compared = {"weight": torch.ones(1)}, []
    monkeypatch.setattr(precision, "scores_of", lambda *given: compared.append(given) or SAME)
    made = {other: its, file: own}
    monkeypatch.setattr(precision, "make_precision", lambda at, *given: made[at])
    monkeypatch.setattr(precision, "judge_precision", lambda *given: given[4:])
    write = {id(state): other}
    unseen = Unseen(held, rest, state if seen else None)
    found = compare(file, "auto", own, [], unseen, None, lambda tensors: write[id(tensors)], seed=0)
    assert found == (SAME, None)
    assert compared == [(other, its.path, held) if seen else (file, own.path, held)]
