from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mvp_edge.core.errors import ExportError
from mvp_edge.data import ImageSet
from mvp_edge.export import export_onnx
from mvp_edge.prune.precision import (
    MAX_DROP,
    NOT_SLOWER,
    SAVED_BYTES,
    Figures,
    Verdict,
    failed_gate,
    judge,
    try_precisions,
)

FULL = Figures(92.0, 425_000, 0.23)


def test_faster_and_accurate_is_kept() -> None:
    verdict = judge(FULL, Figures(91.8, 420_000, 0.18), 0.8)
    assert verdict.passed
    assert verdict.reasons[0] == "top-1 is 0.20 points lower"
    assert verdict.reasons[1].startswith("0.80 times the time and 0.99 times the bytes")


@pytest.mark.parametrize(
    ("top1", "passed", "words"),
    [
        (92.0, True, "the same"),
        (93.5, True, "1.50 points higher"),
        (92 - MAX_DROP + 0.01, True, "0.99 points lower"),
        (92 - MAX_DROP, False, "less than 1 is allowed"),
        (80.0, False, "12.00 points lower"),
        (None, False, "unknown without real test images"),
    ],
)
def test_accuracy_decides(top1: float | None, passed: bool, words: str) -> None:
    verdict = judge(FULL, Figures(top1, 136_000, 0.18), 0.8)
    assert verdict.passed is passed
    assert words in verdict.reasons[0]


@pytest.mark.parametrize(
    ("size", "ratio", "passed"),
    [
        (425_000, 0.9, True),
        (425_000, 0.91, False),
        (425_001, 0.5, False),  # faster, but more bytes
        (136_000, NOT_SLOWER, True),  # smaller at the same time
        (136_000, NOT_SLOWER + 0.01, False),  # smaller, but slower
        (300_000, 1.0, False),  # not small enough
        (425_000 - SAVED_BYTES, 1.0, False),  # saves enough bytes, not enough of its own
    ],
)
def test_time_and_size_decide(size: int, ratio: float, passed: bool) -> None:
    verdict = judge(FULL, Figures(92.0, size, 0.2), ratio)
    assert verdict.passed is passed
    assert ("needed" in verdict.reasons[1]) is not passed


def test_a_few_kilobytes_are_not_worth_a_file() -> None:
    assert not judge(Figures(92.0, 90_000, 0.1), Figures(92.0, 30_000, 0.1), 1.0).passed


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
    monkeypatch.setattr("mvp_edge.prune.precision.judge", lambda *_: Verdict(passed, ("top-1 so", "time so")))


def test_auto_keeps_what_earns_its_place(file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict(monkeypatch, True)
    full, small = try_precisions(file, "auto", images.images, images, seed=0)
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
    full, small = try_precisions(file, "auto", images.images, images, seed=0)
    assert [p.name for p in file.parent.iterdir()] == ["model.onnx"]
    assert (full.kept, small.kept, small.reasons) == (True, False, ("top-1 so", "time so"))
    assert small.top1 is not None and small.bytes and small.latency_ms


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_what_is_asked_for_stays_with_a_warning(
    file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    verdict(monkeypatch, False)
    variants = try_precisions(file, precision, images.images, images, seed=0)
    assert file.with_name(f"model-{precision}.onnx").is_file()
    assert (variants[1].kept, variants[1].passed) == (True, False)
    assert failed_gate(variants) == [
        f"model-{precision}.onnx was requested, but does not pass the accuracy and size gate: top-1 so; time so",
    ]


def test_fp32_makes_nothing(file: Path, images: ImageSet) -> None:
    (only,) = try_precisions(file, "fp32", images.images, images, seed=0)
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
def test_without_calibration_images(file: Path, images: ImageSet, calibration: torch.Tensor | None) -> None:
    _, small = try_precisions(file, "auto", calibration, images, seed=0)
    assert (small.kept, small.bytes) == (False, None)
    assert "--data" in small.reasons[0]
    with pytest.raises(ExportError, match="needs images to calibrate"):
        try_precisions(file, "int8", calibration, images, seed=0)
    assert try_precisions(file, "fp16", calibration, images, seed=0)[1].kept
