"""Vision transformers as files: nothing above rank 4, nothing computed from shapes, equal to the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from mvp_edge.export import OnnxClassifier, export_onnx, take_inventory, verify_onnx
from mvp_edge.export.attention import for_phones
from mvp_edge.export.precision import convert_fp16, quantise_int8
from mvp_edge.models.groups import find_groups
from mvp_edge.models.slicing import sliced_copy
from tests.transformers import KINDS, SIZE, drawn_plan, small_vit

THREE = (0.5, 0.5, 0.5)
LABELS = tuple("abcdefg")
KNOWN = {
    "Add", "Conv", "Div", "Erf", "Gather", "Gemm", "LayerNormalization", "MatMul", "Mul", "Pad", "ReduceMean",
    "Reshape", "Softmax", "Sub", "Transpose",
}  # fmt: skip


def exported(model: nn.Module, path: Path, **options: Any) -> Path:
    export_onnx(model, path, input_size=SIZE, mean=THREE, std=THREE, labels=LABELS, metadata={}, **options)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_whole_and_sliced_files_agree_with_the_network(kind: str, tmp_path: Path) -> None:
    whole = small_vit(**KINDS[kind])
    table = find_groups(whole, SIZE, "pruned")
    for model in (whole, sliced_copy(whole, table, drawn_plan(table, 0.4)).eval()):
        for form in ("float32-nchw", "uint8-nhwc"):
            file = exported(model, tmp_path / "m.onnx", input_format=form)
            assert verify_onnx(file, model, SIZE, THREE, THREE) <= 1e-5
            found = take_inventory(file)
            assert found.largest_rank == 4
            assert set(found.operators) - {"Cast"} <= KNOWN


def test_the_rank_is_known_of_every_tensor(tmp_path: Path) -> None:
    file = exported(small_vit(), tmp_path / "m.onnx")
    graph = onnx.shape_inference.infer_shapes(onnx.load(file), strict_mode=True).graph
    known = {v.name for v in (*graph.value_info, *graph.output)}
    assert known >= {name for node in graph.node for name in node.output}


def test_a_rank_of_five_is_seen(tmp_path: Path) -> None:
    class Five(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.reshape(-1, 3, 4, 8, 32).permute(0, 1, 3, 2, 4).mean((2, 3, 4))

    export_onnx(Five().eval(), tmp_path / "m.onnx", input_size=SIZE, mean=THREE, std=THREE, labels="abc", metadata={})
    assert take_inventory(tmp_path / "m.onnx").largest_rank == 5


def test_the_network_itself_stays_as_it_was() -> None:
    model = small_vit()
    images = torch.randn(2, 3, *SIZE)
    before, names = model(images), [n for n, _ in model.named_modules()]
    rewritten = for_phones(model)
    assert torch.allclose(rewritten(images), before, atol=1e-5)
    assert [n for n, _ in model.named_modules()] == names and "q" in dir(rewritten.get_submodule("blocks.0.attn"))
    assert torch.equal(model(images), before)


def test_half_precision_and_int8(tmp_path: Path) -> None:
    model = small_vit()
    file = exported(model, tmp_path / "m.onnx", input_format="uint8-nhwc")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, *SIZE), dtype=np.uint8)
    expected = OnnxClassifier(file).predict(pixels)
    convert_fp16(file, tmp_path / "half.onnx")
    quantise_int8(file, tmp_path / "int8.onnx", pixels)
    for name, share, most in (("half", 0.52, 0.05), ("int8", 0.4, 0.5)):
        smaller = tmp_path / f"{name}.onnx"
        assert take_inventory(smaller).parameter_bytes < share * take_inventory(file).parameter_bytes
        assert take_inventory(smaller).largest_rank == 4
        assert np.abs(OnnxClassifier(smaller).predict(pixels) - expected).max() < most * np.abs(expected).max()
