from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mvp_edge.core.errors import ExportError
from mvp_edge.data import ImageSet
from mvp_edge.export import export_onnx
from mvp_edge.prune.precision import Verdict
from mvp_edge.prune.variants import notes, try_precisions

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


def verdict(monkeypatch: pytest.MonkeyPatch, earned: bool) -> None:
    monkeypatch.setattr("mvp_edge.prune.variants.judge", lambda *_: Verdict(earned, ("top-1 so", "time so")))


def test_auto_keeps_what_earns_its_place(file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict(monkeypatch, True)
    full, small = try_precisions(file, "auto", images.images, images, seed=0)
    assert (full.precision, full.kept, full.time_ratio) == ("fp32", True, 1.0)
    assert (small.precision, small.file, small.kept) == ("int8", "model-int8.onnx", True)
    assert small.size_bytes == file.with_name("model-int8.onnx").stat().st_size
    assert full.top1 is not None and small.top1 is not None
    assert small.to_json()["latency_ms"]["median"] > 0
    assert notes([full, small]) == []


def test_auto_drops_what_does_not_and_tells_both_figures(
    file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict(monkeypatch, False)
    full, small = try_precisions(file, "auto", images.images, images, seed=0)
    assert [p.name for p in file.parent.iterdir()] == ["model.onnx"]
    assert (full.kept, small.kept, small.reasons) == (True, False, ("top-1 so", "time so"))
    assert small.top1 is not None and small.size_bytes and small.latency


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_what_is_asked_for_stays_with_a_warning(
    file: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    verdict(monkeypatch, False)
    variants = try_precisions(file, precision, images.images, images, seed=0)  # pyright: ignore[reportArgumentType]
    assert file.with_name(f"model-{precision}.onnx").is_file()
    assert (variants[1].kept, variants[1].earned) == (True, False)
    assert notes(variants) == [
        f"model-{precision}.onnx was asked for, but does not earn its place: top-1 so; time so",
    ]


def test_fp32_makes_nothing(file: Path, images: ImageSet) -> None:
    (only,) = try_precisions(file, "fp32", images.images, images, seed=0)
    assert only.to_json() == {
        "precision": "fp32",
        "file": "model.onnx",
        "kept": True,
        "earned": True,
        "reasons": [],
        "top1": None,
        "bytes": None,
        "latency_ms": None,
        "time_ratio": None,
    }
    assert [p.name for p in file.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("calibration", [None, torch.zeros(0, 3, 16, 16, dtype=torch.uint8)])
def test_without_calibration_images(file: Path, images: ImageSet, calibration: torch.Tensor | None) -> None:
    _, small = try_precisions(file, "auto", calibration, images, seed=0)
    assert (small.kept, small.size_bytes) == (False, None)
    assert "--data" in small.reasons[0]
    with pytest.raises(ExportError, match="needs images to calibrate"):
        try_precisions(file, "int8", calibration, images, seed=0)
    assert try_precisions(file, "fp16", calibration, images, seed=0)[1].kept
