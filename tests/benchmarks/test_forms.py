"""INT8 forms and codebooks of bodies: ranges, corrected biases, and codes that make up for each other's errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks.measurements import codebook, forms
from mvp_edge.export.static_int8 import quantise

DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """Normalisation, a convolution with a Clip behind it, and another one."""
    stored = {
        "mean": np.full((3, 1, 1), 127 / 255), "low": np.array(0), "high": np.array(6),
        "a.weight": DRAW.normal(0, 1, (8, 3, 3, 3)), "a.bias": DRAW.normal(0, 1, 8),
        "b.weight": DRAW.standard_t(3, (8, 8, 1, 1)), "b.bias": DRAW.normal(0, 1, 8),
    }  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "a.weight", "a.bias"], ["a0"], "a", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["a0", "low", "high"], ["a1"]),
        helper.make_node("Conv", ["a1", "b.weight", "b.bias"], ["b0"], "b"),
        helper.make_node("GlobalAveragePool", ["b0"], ["mean0"]),
        helper.make_node("Flatten", ["mean0"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).random((70, 3, 8, 8), np.float32)


def test_ranges_are_those_of_the_pictures(network: onnx.ModelProto, images: np.ndarray) -> None:
    ranges = forms.ranges_of(network, images)
    assert set(ranges) == {"centred", "a1", "b0"}
    assert ranges["centred"] == pytest.approx([-127 / 255, 128 / 255]) and ranges["a1"][0] == 0
    (values,) = forms.outputs(network, ["b0"], images)
    assert ranges["b0"] == pytest.approx([np.concatenate(values).min(), np.concatenate(values).max()])


def test_corrected_biases_keep_the_means(network: onnx.ModelProto, images: np.ndarray) -> None:
    ranges = forms.ranges_of(network, images)
    shifts, errors = forms.shifts_of(network, ranges, images)
    (exact,), (plain,), (found,) = (
        forms.means(m, [name], images)
        for m, name in (
            (network, "b0"), (quantise(network, ranges, {}), "b0.dq"), (quantise(network, ranges, shifts), "b0.dq"),
        )
    )  # fmt: skip
    assert np.abs(found - exact).max() < 0.5 * np.abs(plain - exact).max()
    assert set(errors) == {"a1", "b0"} and max(errors.values()) < 0.01


def test_pictures_left_out_for_choices_do_not_calibrate(tmp_path: Path) -> None:
    for i in range(45):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i:02}.png")
    chosen = forms.calibration_files([tmp_path], 60)
    assert len(chosen) == 42 and not {"00.png", "20.png", "40.png"} & {p.name for p in chosen}


def test_codes_make_up_for_the_errors_of_earlier_ones() -> None:
    torch.manual_seed(0)
    weight, mixed = torch.randn(64, 48, 1, 1), torch.randn(48, 12)
    seen = mixed @ torch.randn(12, 4000) + 0.1 * torch.randn(48, 4000)
    wanted = weight.flatten(1) @ seen

    def error(form: codebook.Coded) -> float:
        made = form.values(form.book, form.scale).flatten(1) @ seen
        return float((made - wanted).square().mean() / wanted.var())

    alone, together = codebook.coded(weight, None, 3), codebook.coded(weight, seen, 3)
    assert alone.codes.shape == (64, 16) and alone.codes.dtype == torch.uint8
    assert error(together) < 0.6 * error(alone) < 0.1


def test_columns_that_do_not_fill_a_code(tmp_path: Path) -> None:
    form = codebook.coded(torch.randn(300, 1, 3, 3), None, 2)
    assert form.codes.shape == (300, 5) and form.values(form.book, form.scale).shape == (300, 1, 3, 3)
