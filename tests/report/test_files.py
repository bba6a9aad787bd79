"""What the page says of the delivered files."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

from mvp_edge.config import InputFormat
from mvp_edge.export import OnnxClassifier, export_onnx
from mvp_edge.export.classifier import read_interface
from mvp_edge.models.bases import load_base
from mvp_edge.report import Extras, Report, files, render_html
from mvp_edge.report.record import KnownRecord
from tests.report.example import example_report, example_units

NAMES = ["apple", "chair", "crab", "plain", "rose", "tiger"]


@pytest.mark.parametrize(
    ("kind", "threshold"), [("float32-nchw", None), ("uint8-nhwc", None), ("float32-nchw", -1e6), ("uint8-nhwc", 1e6)]
)
def test_the_lines_of_python_run_the_model(
    kind: InputFormat, threshold: float | None, tiny_base: Path, tmp_path: Path
) -> None:
    base, model = load_base(str(tiny_base))
    file = tmp_path / "model.onnx"
    export_onnx(
        model, file, input_size=(24, 40), mean=base.mean, std=base.std, labels=NAMES, metadata={}, input_format=kind
    )
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    picture = np.random.default_rng(3).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    painted = np.concatenate([picture, np.full((24, 40, 1), 255, np.uint8)], 2)
    picture[:12], painted[:12, :, 3] = 255, 0  # what is transparent is white, as for `predict`
    Image.fromarray(painted).save(tmp_path / "photo.jpg", "PNG")  # Pillow looks inside; JPEG would change the pixels
    interface = {k: v for k, v in read_interface(file).to_json().items() if k != "classes"}
    logits, known = OnnxClassifier(file).predict(picture.transpose(2, 0, 1)[None]), None
    if threshold is not None:
        known = KnownRecord("known", threshold, temperature=1.0, kept=0.95, listed=6, neutral=0, unlisted=0)
        add_known(file)
    report = msgspec.structs.replace(Report.from_json(example_report() | {"interface": interface}), known=known)
    render_html(report, example_units(), Extras(), tmp_path / "report.html")
    shown = re.search(r"<code>(import numpy.*?)</code>", (tmp_path / "report.html").read_text(), re.DOTALL)
    assert shown
    lines = html.unescape(shown[1])
    assert max(map(len, lines.splitlines())) <= 90  # else the page scrolls sideways
    said = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert said == ("none of these\n" if threshold == 1e6 else f"{NAMES[int(logits.argmax())]}\n")


def add_known(file: Path) -> None:
    """Give a model a second output: the largest logit of each picture."""
    model = onnx.load(file)
    model.graph.node.append(onnx.helper.make_node("ReduceMax", ["logits", "axes"], ["known"], keepdims=0))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("known", onnx.TensorProto.FLOAT, ["batch"]))
    onnx.save(model, file)


def test_the_contract_is_told() -> None:
    told = files.usage(Report.from_json(example_report() | {"out": "my out"}))
    assert told["facts"] == [
        ("File", "model.onnx; model-int8.onnx has the same input and output"),
        ("Input", "image: float32, 1 x 3 x 32 x 32 (NCHW), or a batch of images"),
        ("Pixels", "raw RGB from 0 to 1; the model normalises them itself"),
        ("Output", "logits: 5 logits in the order of labels.txt; probabilities are softmax(logits)"),
    ]
    assert told["export"] == "mvp-edge export 'my out' --target android"


def test_bytes_with_colours_last_are_told() -> None:
    report = example_report()
    report["interface"]["input"] |= {"dtype": "uint8", "layout": "NHWC", "shape": [None, 24, 40, 3], "range": [0, 255]}
    report["precisions"]["files"][1]["kept"] = False
    told = files.usage(Report.from_json(report))
    assert told["facts"][:3] == [
        ("File", "model.onnx"),
        ("Input", "image: uint8, 1 x 24 x 40 x 3 (NHWC), or a batch of images"),
        ("Pixels", "raw RGB from 0 to 255; the model normalises them itself"),
    ]


def test_bars_of_time_are_the_paired_ratio() -> None:
    report = example_report()
    full, small = report["precisions"]["files"]
    full["latency_ms"]["median"], small["latency_ms"]["median"], small["time_ratio"] = 0.532, 0.648, 0.91
    first, second = files.precisions(Report.from_json(report))
    assert (first["time"], first["time_length"]) == ("0.532 ms", 100)
    assert (second["time"], second["time_length"]) == ("0.91 \N{MULTIPLICATION SIGN}", 91)
    small["time_ratio"] = 1.25
    assert [row["time_length"] for row in files.precisions(Report.from_json(report))] == [80, 100]


def test_answers_come_before_internals(tmp_path: Path) -> None:
    render_html(Report.from_json(example_report()), example_units(), Extras(), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    names = ("warnings", "accuracy", "confusion", "use", "voted", "latency", "kept")
    places = [page.index(f'id="{name}"') for name in names]
    assert [page.index("Headline numbers"), *places] == sorted([page.index("Headline numbers"), *places])
    assert places[-2] < page.index("<details>") < places[-1]
