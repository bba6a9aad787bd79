"""Pooling to a number of pixels that does not divide the image's, and tiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mvp_edge.export import export_onnx, verify_onnx
from mvp_edge.export.fixed_sizes import FixedSizes

NORM: Any = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


@pytest.mark.parametrize("size", [(7, 7), (3, None), 5, 1, (10, 6)])
def test_the_file_pools_as_torch_does(size: Any, tmp_path: Path) -> None:
    pool = nn.AdaptiveAvgPool2d(size)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    export_onnx(model, tmp_path / "m.onnx", input_size=(12, 8), labels=["a", "b"], metadata={}, **NORM)
    assert verify_onnx(tmp_path / "m.onnx", model, (12, 8), **NORM) < 1e-5
    image = torch.randn(2, 4, 10, 6)
    expected = pool(image)
    with FixedSizes():
        torch.testing.assert_close(pool(image), expected)
        torch.testing.assert_close(F.adaptive_avg_pool2d(image, size), expected)


@pytest.mark.parametrize("size", [(2, 3), ((3,),), (2, 2, 1, 1)])
def test_tiles_have_no_branches(size: tuple[Any, ...], tmp_path: Path) -> None:
    class Tiled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            step = x.shape[2] // 4
            return x[:1, :, ::step, :2].tile(*size).mean((0, 1))[None, :3, 0] + x.mean((1, 2, 3))[:, None]

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Tiled()).eval()
    export_onnx(model, tmp_path / "m.onnx", input_size=(12, 8), labels=["a", "b", "c"], metadata={}, **NORM)
    assert verify_onnx(tmp_path / "m.onnx", model, (12, 8), **NORM) < 1e-5
    assert "If" not in {n.op_type for n in onnx.load(tmp_path / "m.onnx").graph.node}
