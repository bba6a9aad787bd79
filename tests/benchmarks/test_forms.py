"""INT8 forms and codebooks of bodies: ranges, corrected biases, and codes that make up for each other's errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from benchmarks import lite0
from benchmarks.measurements import bodies, codebook, forms, thresholds
from mvp_edge.export.static_int8 import quantise
from tests.bodies import COLOURS, make_body_zoo

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


def scored(scores: list[float]) -> bodies.Shown:
    """Pictures of class 0, and what they score where it is listed."""
    logits = np.full((len(scores), 400), -30.0)
    logits[:, 0] = scores
    return logits, np.full_like(logits, -10.0), np.eye(400)[[0] * len(scores)]


def test_each_set_of_pictures_counts_alike_in_a_threshold() -> None:
    few, many = scored([float(v) for v in range(10)]), scored([100.0 + v for v in range(90)])
    (alone,), (both,) = ([t for n, t in bodies.thresholds(sets, []) if n == 1] for sets in ([few], [few, many]))

    def score(logit: float) -> float:
        deviation = (logit + 10) * (399 / 400**2) ** 0.5  # of one logit and 399 of -10
        return (logit - (np.log(399) - 10)) / deviation**0.5

    assert alone == pytest.approx(score(0), abs=0.01)
    assert both == pytest.approx(score(1), abs=0.01)  # a twentieth of all is a tenth of the first set


def test_pictures_of_each_directory_apart() -> None:
    files = [Path("a/n1/x.png"), Path("b/n1/x.png"), Path("a/n2/x.png")]
    first, second = bodies.parts((np.arange(3), np.arange(3), np.arange(3)), files, [Path("a"), Path("b")])
    assert first[0].tolist() == [0, 2] and second[2].tolist() == [1]


def test_compressed_logits_are_those_that_features_give() -> None:
    features, rows, bias = DRAW.normal(0, 1, (300, 80)), DRAW.normal(0, 1, (120, 80)), DRAW.normal(0, 1, 120)
    low = bodies.compressed(features, rows, bias)
    found = bodies.in_few(features @ rows.T + bias, bias, low["rows"], low["bias"])
    assert found == pytest.approx(low["coordinates"] @ low["rows"].T + low["bias"])
    assert 0.01 < np.abs(found - features @ rows.T - bias).max() < 6


def test_thresholds_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "WNIDS", tuple(COLOURS))
    monkeypatch.setattr(bodies, "LISTED", (1, 2))
    monkeypatch.setattr(forms, "HEAD", "fc")
    zoo = make_body_zoo(tmp_path / "zoo")
    for name, colour in COLOURS.items():
        sharp = [tmp_path / "sharp" / f"{name} {i}.png" for i in range(5)]
        for file in (tmp_path / "large" / name / "0.png", tmp_path / "small" / name / "0.png", *sharp):
            file.parent.mkdir(parents=True, exist_ok=True)
            side = 20 if "small" in file.parts else 40
            Image.new("RGB", (2 * side, side), tuple(round(255 * v) for v in colour)).save(file)
    before = {b.id: b for b in bodies.every_body(zoo)}
    given = (("--pictures", "large"), ("--pictures", "small"), ("--sharp", "sharp"))
    words = [str(zoo), *(f"{option}={tmp_path / name}" for option, name in given), "--small=8"]
    monkeypatch.setattr(thresholds, "LEFT_OUT", 1)
    make, sets = thresholds.thresholds, list[int]()
    monkeypatch.setattr(thresholds, "thresholds", lambda given, near: sets.append(len(given)) or make(given, near))
    thresholds.main(["--allow-dirty", *words])
    after = {b.id: b for b in bodies.every_body(zoo)}
    assert list(after) == list(before)
    assert not [name for name in after if after[name].thresholds == before[name].thresholds]
    # One set, labelled, up to its pixels; beyond, the sharp ones and each directory; for the base those as large as it.
    expected = {"tiny-32": 2, "tiny-16": 3, "tiny-8": 1, "tiny-16-small": 3}
    assert dict(zip([n for n in after if n != "tiny-16-int8"], sets, strict=True)) == expected
    assert after["tiny-16-int8"].thresholds == after["tiny-16"].thresholds
