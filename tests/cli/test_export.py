"""`export`, from the typed command to the folder."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from mvp_edge.data.images import decode
from mvp_edge.export import OnnxClassifier
from mvp_edge.export.classifier import read_interface
from mvp_edge.export.compact import halve
from mvp_edge.export.precision import quantise_int8

from .conftest import Done, Run

COMMON = {"README.md", "labels.txt", "model.onnx", "model.ort", "preprocessing.json", "required_operators.config"}
APP = {"manifest.webmanifest", "worker.js", "icon.svg"}
CONFIGS = ("required_operators.config", "required_operators.with_runtime_opt.config")
RUNTIME = {"model.with_runtime_opt.ort", CONFIGS[1]}


@pytest.fixture
def result(pruned: tuple[Path, Done], tmp_path: Path) -> Path:
    """A result directory of one's own, without the INT8 model that may have passed the gate."""
    out = Path(shutil.copytree(pruned[0], tmp_path / "result"))
    (out / "model-int8.onnx").unlink(missing_ok=True)
    return out


PROVIDERS = {
    "android": ["NNAPI", "XNNPACK", "QNN"],
    "ios": ["CoreML NeuralNetwork", "CoreML MLProgram", "XNNPACK"],
    "ort": ["NNAPI", "CoreML NeuralNetwork", "CoreML MLProgram", "XNNPACK", "QNN"],
}


@pytest.mark.parametrize(
    ("target", "code"), [("android", "`Picture.kt`"), ("ios", "`Picture.swift`"), ("ort", "```python")]
)
def test_folder(run: Run, result: Path, target: str, code: str) -> None:
    done = run("export", result, "--target", target, "--json")
    assert done.code == 0, done.err
    made = done.json
    folder = result / target
    assert made["out"] == str(folder) and made["target"] == target
    files = COMMON | RUNTIME | ({"sample"} if target != "ort" else set())
    assert {f["name"] for f in made["files"]} == {p.name for p in folder.iterdir()} == files
    assert max(made["max_abs_diff"].values()) < 1e-3 and set(made["max_abs_diff"]) == {
        "model.onnx", "model.ort", "model.with_runtime_opt.ort"
    }  # fmt: skip
    assert [row["provider"] for row in made["providers"]["fp32"]] == PROVIDERS[target]
    assert (folder / "labels.txt").read_text() == "tiger\napple\nrose\n"
    facts = json.loads((folder / "preprocessing.json").read_text())
    assert facts["classes"] == ["tiger", "apple", "rose"]
    assert facts["input"]["shape"] == [None if target == "ort" else 1, 3, 32, 32]
    assert facts["normalisation"]["inside_model"] is True
    text = (folder / "README.md").read_text()
    assert code in text and "`image`" in text and "eligibility, not latency" in text
    assert "{{" not in text and "{%" not in text
    assert "| `model.onnx` | the model in plain ONNX" in text
    assert "A full build takes\n`model.onnx` instead" in text
    if target == "ort":
        assert onnxruntime.__version__ in text.split(code)[0].split("## ")[-1]  # where the runtime is installed
    else:
        assert next((folder / "sample").rglob("model.onnx")).read_bytes() == (folder / "model.onnx").read_bytes()
    assert {p for p in PROVIDERS["ort"] if p in text} == set(PROVIDERS[target])
    first, second = (next(row for row in text.splitlines() if row.startswith(f"| `{f}`")) for f in CONFIGS)
    assert "reduced build" in first and "the CPU's `.ort` files" in first and "`.with_runtime_opt.ort` files" in second
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    expected = OnnxClassifier(result / "model.onnx").predict(pixels)
    for name in ("model.ort", "model.onnx"):
        np.testing.assert_allclose(OnnxClassifier(folder / name).predict(pixels), expected, atol=1e-4)
    assert read_interface(folder / "model.onnx") == read_interface(folder / "model.ort")


@pytest.mark.parametrize(
    ("target", "package", "files", "code"),
    [
        ("litert", "ai_edge_litert", {"model.tflite"}, "```python"),
        ("ncnn", "pnnx", {"model.param", "model.bin"}, "```cpp"),
        ("coreml", "coremltools", {"model.mlpackage"}, "```swift"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # coremltools leaves a directory
def test_folder_of_another_runtime(
    run: Run, result: Path, target: str, package: str, files: set[str], code: str
) -> None:
    pytest.importorskip(package)
    done = run("export", result, "--target", target, "--json")
    assert done.code == 0, done.err
    made, folder = done.json, result / target
    assert {f["name"] for f in made["files"]} == {"README.md", "labels.txt", "preprocessing.json"} | files
    assert all(f["bytes"] > 0 for f in made["files"]) and made["providers"] == {}
    assert set(made["max_abs_diff"]) == ({f for f in files if f != "model.bin"} if target != "coreml" else set())
    assert run("export", result, "--target", target, "--force").code == 0  # all of it is known to be an export's
    text = (folder / "README.md").read_text()
    assert code in text and "{{" not in text and "{%" not in text and "minimal build" not in text
    if target == "litert":
        python = text.split("```python\n")[1].split("```")[0]
        (folder / "use.py").write_text(python + "\nprint(classify('photo.png')[0][0])\n")
        Image.fromarray(np.full((50, 40, 3), 99, np.uint8)).save(folder / "photo.png")
        used = subprocess.run([sys.executable, "use.py"], cwd=folder, capture_output=True, text=True, check=False)
        assert used.stdout.strip() in ("tiger", "apple", "rose"), used.stderr


def test_the_lines_of_python_run(run: Run, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("export", result, "--target", "ort").code == 0
    code = (result / "ort" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace('open("labels.txt", encoding="utf-8").read()', 'Path("labels.txt").read_text()')
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    Image.fromarray(np.dstack([pixels, draw.integers(0, 256, (32, 32), dtype=np.uint8)])).save(tmp_path / "clear.png")
    Image.fromarray(pixels).resize((90, 60)).save(tmp_path / "wide.png")
    monkeypatch.chdir(result / "ort")
    names: dict = {"Path": Path}
    exec(compile(ast.parse(code), "README.md", "exec"), names)
    for name in ("opaque.png", "clear.png"):
        found = dict(names["classify"](tmp_path / name))
        prepared = decode(tmp_path / name, (32, 32)).transpose(2, 0, 1)
        logits = OnnxClassifier(result / "model.onnx").predict(prepared[None])[0]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose([found[n] for n in ("tiger", "apple", "rose")], expected, atol=1e-4, err_msg=name)
    assert sum(p for _, p in names["classify"](tmp_path / "wide.png")) == pytest.approx(1)


def test_web_page_with_the_whole_model(
    run: Run, result: Path, tiny_zoo: Path, fake_ort_web: Path, tmp_path: Path
) -> None:
    words = ["--target", "web", "--ort-web", fake_ort_web, "--out", tmp_path / "page", "--quiet"]
    done = run("export", result, *words, "--with-dense", "--zoo", tiny_zoo)
    assert done.code == 0, done.err
    assert {p.name for p in (tmp_path / "page").iterdir()} == COMMON | APP | {"index.html", "dense.js"}
    assert "index.html" in done.out
    for told in (done.out, (tmp_path / "page" / "README.md").read_text()):
        assert not any(word in told for word in ("NNAPI", "CoreML", "XNNPACK", "QNN", "provider", "eligibility"))
    page = (tmp_path / "page" / "index.html").read_text()
    assert "tiger, apple or rose?" in page and "model.ort " in page and "model.onnx" not in page
    text = (tmp_path / "page" / "README.md").read_text()
    assert "`dense.js`" in text and "```js" in text and "adb reverse" in text
    assert "exists; replace it with --force" in run("export", result, *words).error()
    assert run("export", result, *words, "--force").code == 0
    assert not (tmp_path / "page" / "dense.js").exists()


def test_where_weights_lie_in_few_bytes_the_onnx_file_is_preferred(run: Run, result: Path, fake_ort_web: Path) -> None:
    assert run("export", result, "--target", "ort").code == 0
    assert "Prefer it" not in (result / "ort" / "README.md").read_text()
    model = onnx.load(result / "model.onnx")
    halve(model)
    onnx.save(model, result / "model.onnx")
    assert run("export", result, "--target", "ort", "--force").code == 0
    assert "Prefer it" in (result / "ort" / "README.md").read_text()
    assert run("export", result, "--target", "web", "--ort-web", fake_ort_web).code == 0
    page = (result / "web" / "index.html").read_text()
    packed = re.search(r'id="model-0">([^<]+)<', page)
    assert packed is not None
    assert gzip.decompress(base64.b64decode(packed[1])) == (result / "web" / "model.onnx").read_bytes()


def test_an_int8_model_is_exported_too(run: Run, result: Path, fake_ort_web: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 3, 32, 32), dtype=np.uint8)
    quantise_int8(result / "model.onnx", result / "model-int8.onnx", pixels)
    done = run("export", result, "--target", "web", "--ort-web", fake_ort_web, "--json")
    assert set(done.json["max_abs_diff"]) == {
        "model.onnx", "model.ort", "model-int8.onnx", "model-int8.ort"
    }  # fmt: skip
    assert done.json["providers"] == {}
    done = run("export", result, "--target", "android", "--json")  # where the operators are fused in another way
    assert set(done.json["providers"]) == {"fp32", "int8"}
    text = (result / "android" / "README.md").read_text()
    assert "rounding to its precision" in text and "int8:" in text
    assert "provider (int8)" in run("export", result, "--target", "android", "--force").out
    page = (result / "web" / "index.html").read_text()
    assert "Pruned, INT8" in page and page.count('type="radio"') == 2
    assert "rounding to its precision" in (result / "web" / "README.md").read_text()


def test_a_result_whose_accuracy_is_unknown(run: Run, result: Path, fake_ort_web: Path) -> None:
    report = json.loads((result / "report.json").read_text())
    report["accuracy"]["top1"] = None
    (result / "report.json").write_text(json.dumps(report))
    assert run("export", result, "--target", "web", "--ort-web", fake_ort_web).code == 0
    assert "Top-1" not in (result / "web" / "index.html").read_text()


def test_labels_of_another_run(run: Run, result: Path) -> None:
    (result / "labels.txt").write_text("apple\ntiger\nrose\n")
    before = sorted(result.rglob("*"))
    assert (
        "labels.txt has apple, tiger, rose but model.onnx has tiger" in run("export", result, "--target", "ort").error()
    )
    assert sorted(result.rglob("*")) == before


def test_models_that_differ_in_what_they_take(run: Run, result: Path) -> None:
    model = onnx.load(str(result / "model.onnx"))
    model.graph.output[0].name = "scores"
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    onnx.save(model, str(result / "model-int8.onnx"))
    assert "different inputs or outputs" in run("export", result, "--target", "ort").error()


def test_what_is_no_result(run: Run, tmp_path: Path) -> None:
    assert "is not a directory" in run("export", "none", "--target", "ort").error()
    (tmp_path / "empty").mkdir()
    assert "model.onnx is missing" in run("export", "empty", "--target", "ort").error()


def test_a_folder_that_holds_something_else(run: Run, result: Path) -> None:
    (result / "android").mkdir()
    (result / "android" / "diary.txt").write_text("dear diary")
    assert "not a result" in run("export", result, "--target", "android", "--force").error()
    assert "is a file" in run("export", result, "--target", "ort", "--out", result / "labels.txt").error()


def test_what_export_made_goes_with_its_result(
    run: Run, result: Path, task: Path, images: Path, tiny_zoo: Path, fake_ort_web: Path
) -> None:
    assert run("export", result, "--target", "android").code == 0
    web = ["--target", "web", "--ort-web", fake_ort_web, "--with-dense", "--zoo", tiny_zoo]
    assert run("export", result, *web).code == 0
    words = ["prune", "--task", task, "--data", images, "--zoo", tiny_zoo, "--iterations", 0, "--out", result]
    assert "exports (android, web), with --force" in run(*words).error()
    (result / "web" / "App.kt").write_text("mine")
    assert "--force does not delete: web/App.kt;" in run(*words, "--force").error()
    assert "App.kt" in run("export", result, *web, "--force").error()
    (result / "web" / "App.kt").unlink()
    assert run(*words, "--force").code == 0
    assert not (result / "android").exists() and not (result / "web").exists()


def test_without_onnxruntime_web(run: Run, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urlopen(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    assert "--ort-web DIR" in run("export", result, "--target", "web").error()
    assert "--ort-web" in run("export", result, "--target", "web", "--ort-web", tmp_path).error()
    assert not (result / "web").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--target", "toaster"],
        ["--target", "android", "--with-dense"],
        ["--target", "ios", "--ort-web", "x"],
        ["--target", "web", "--zoo", "x"],
    ],
)
def test_usage(run: Run, result: Path, words: list[str]) -> None:
    done = run("export", result, *words)
    assert (done.code, done.out) == (2, "")
