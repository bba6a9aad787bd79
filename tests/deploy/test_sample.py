"""Sample projects: what can be checked without a phone and without Apple's SDK.

The Kotlin is compiled against stubs, and what needs no phone is run. That needs a JDK and Kotlin 2, from PATH or where
MVP_EDGE_KOTLINC says (`npm pack kotlin-compiler` has it in `bin/kotlinc`). The Swift is parsed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp_edge.core.output import survey
from mvp_edge.data.images import decode
from mvp_edge.deploy.ort_format import fixed_batch
from mvp_edge.deploy.sample import GOLDEN, RESOURCES, SOURCES, Platform, golden_outputs, write_sample
from mvp_edge.export import OnnxClassifier, export_onnx
from mvp_edge.export.classifier import Interface

HERE = Path(__file__).parent / "android"
KOTLIN = "app/src/main/kotlin/dev/mvpedge/sample"
SIZE, LABELS = (24, 32), ("apple", "pear", "plum")
PLATFORMS: tuple[Platform, ...] = ("android", "ios")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Interface]:
    """An ONNX file of one picture, not square, with three classes, and its interface with a threshold."""
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    folder = tmp_path_factory.mktemp("model")
    export_onnx(
        net.eval(), folder / "any.onnx", input_size=SIZE, mean=(0.5,) * 3, std=(0.2,) * 3, labels=LABELS, metadata={}
    )  # fmt: skip
    return folder / "one.onnx", fixed_batch(folder / "any.onnx", folder / "one.onnx", 1)


def with_threshold(interface: Interface) -> Interface:
    return replace(interface, temperature=2.0, known_threshold=0.5)


@pytest.fixture(scope="module", params=PLATFORMS)
def sample(
    request: pytest.FixtureRequest, model: tuple[Path, Interface], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / request.param
    write_sample(request.param, model[0], model[1], folder)
    return folder


def test_the_model_its_labels_and_its_outputs_are_inside(sample: Path, model: tuple[Path, Interface]) -> None:
    resources = sample / RESOURCES["android" if sample.name == "android" else "ios"]
    assert (resources / "model.onnx").read_bytes() == model[0].read_bytes()
    assert (resources / "labels.txt").read_text().split() == list(LABELS)
    expected = OnnxClassifier(model[0]).predict(decode(resources / "golden.png", SIZE).transpose(2, 0, 1)[None])[0]
    found = np.array((resources / "golden.txt").read_text().split(), np.float32)
    np.testing.assert_array_equal(found, expected)
    for file in sample.rglob("*"):
        assert file.suffix in (".png", ".onnx") or file.is_dir() or "{{" not in file.read_text()


def test_the_golden_picture_shows_wrong_preparation(model: tuple[Path, Interface], tmp_path: Path) -> None:
    right, picture = golden_outputs(model[0]), Image.open(GOLDEN)
    wrong = {
        "turned": picture.transpose(Image.Transpose.ROTATE_90),
        "colours": Image.fromarray(np.asarray(picture)[..., ::-1]),
        "stretched": picture.resize((320, 240), Image.Resampling.BILINEAR),
        "nearest": picture.crop((14, 0, 242, 171)).resize((32, 24), Image.Resampling.NEAREST),
    }
    for name, other in wrong.items():
        other.save(tmp_path / "wrong.png")
        pixels = decode(tmp_path / "wrong.png", SIZE).transpose(2, 0, 1)[None]
        assert np.abs(OnnxClassifier(model[0]).predict(pixels)[0] - right).max() > 1e-3, name


@pytest.mark.parametrize("platform", PLATFORMS)
def test_constants_are_those_of_the_interface(
    platform: Platform, model: tuple[Path, Interface], tmp_path: Path
) -> None:
    bytes_last = replace(with_threshold(model[1]), dtype="uint8", layout="NHWC", known_threshold=-1e-05)
    write_sample(platform, model[0], bytes_last, tmp_path / "sample")
    text = next((tmp_path / "sample").rglob("Model.*t")).read_text()
    found = dict(re.findall(r"(\w+)(?:: \w+\??)? = (\S+)", text))
    expected = ["32", "24", "true", "true", "2.0", "-1e-05", "0.001"]
    if platform == "android":
        names = ["WIDTH", "HEIGHT", "BYTES", "COLOURS_LAST", "TEMPERATURE", "KNOWN_THRESHOLD", "TOLERANCE"]
        expected[4:] = [f"{value}f" for value in expected[4:]]
    else:
        names = ["width", "height", "bytes", "coloursLast", "temperature", "knownThreshold", "tolerance"]
    assert [found[name] for name in names] == expected


def test_only_an_unchanged_project_may_be_replaced(model: tuple[Path, Interface], tmp_path: Path) -> None:
    (tmp_path / "preprocessing.json").write_text(
        '{"format": 1, "input": {}, "normalisation": {}, "output": {}, "classes": []}'
    )
    sample = tmp_path / "sample"
    write_sample("android", model[0], model[1], sample)

    def foreign() -> tuple[str, ...] | None:
        found = survey(tmp_path, "export")
        return found and found.foreign

    assert foreign() == ()
    source = sample / KOTLIN / "MainActivity.kt"
    before = source.read_text()
    source.write_text(before + "// mine\n")
    assert foreign() == ("sample",)
    source.write_text(before)
    (sample / "local.properties").write_text("sdk.dir=/sdk\n")
    assert foreign() == ("sample",)
    (sample / "local.properties").unlink()
    assert foreign() == ()
    source.unlink()
    assert foreign() == ("sample",)
    shutil.rmtree(sample)
    sample.mkdir()
    assert foreign() == ("sample",)


# Android


def test_manifest_and_resources_are_well_formed_and_agree() -> None:
    space = "{http://schemas.android.com/apk/res/android}"
    main = SOURCES / "android/app/src/main"
    manifest = ET.parse(main / "AndroidManifest.xml").getroot()
    assert {e.get(f"{space}name") for e in manifest.iter("uses-permission")} == {"android.permission.CAMERA"}
    (activity,) = manifest.iter("activity")
    assert (
        f"class {activity.get(f'{space}name', '').removeprefix('.')} "
        in (SOURCES / "android" / KOTLIN / "MainActivity.kt").read_text()
    )
    strings = {e.get("name") for e in ET.parse(main / "res/values/strings.xml").getroot()}
    code = "".join(f.read_text() for f in (SOURCES / "android").rglob("*.kt"))
    assert set(re.findall(r"R\.string\.(\w+)", code)) == strings - {"title"}
    application = next(manifest.iter("application"))
    assert application.get(f"{space}label") == "@string/title"


def test_versions_are_pinned() -> None:
    scripts = "".join(f.read_text() for f in (SOURCES / "android").rglob("*.kts"))
    wanted = re.findall(r'implementation\("[\w.-]+:[\w.-]+:([^"]+)"\)|id\("[\w.]+"\) version "([^"]+)"', scripts)
    versions = [first or second for first, second in wanted]
    assert len(versions) == scripts.count("implementation(") + scripts.count(" version ") == 8
    assert all(re.fullmatch(r"\d+(\.\d+)+", v) for v in versions)
    wrapper = (SOURCES / "android/gradle/wrapper/gradle-wrapper.properties").read_text()
    assert re.search(
        r"^distributionUrl=https\\://services\.gradle\.org/distributions/gradle-[\d.]+-bin\.zip$", wrapper, re.M
    )
    assert re.findall(r"exact: \"(\d+\.\d+\.\d+)\"", (SOURCES / "ios/Package.swift").read_text())


def kotlin_compiler() -> str:
    """Return a compiler of Kotlin 2; skip where there is none."""
    found = os.environ.get("MVP_EDGE_KOTLINC") or shutil.which("kotlinc")
    if found is None or shutil.which("javac") is None:
        pytest.skip("no kotlinc and JDK; `npm pack kotlin-compiler`, and set MVP_EDGE_KOTLINC")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=True)
    version = re.search(r"(\d+)\.\d+", told.stderr + told.stdout)
    if version is None or int(version[1]) < 2:
        pytest.skip(f"{found} is {told.stderr.strip()}; Kotlin 2 is needed")
    return found


@pytest.fixture(scope="module")
def run_kotlin(model: tuple[Path, Interface], tmp_path_factory: pytest.TempPathFactory) -> Kotlin:
    """Compile a project with the stubs."""
    compiler = kotlin_compiler()
    folder = tmp_path_factory.mktemp("kotlin")
    write_sample("android", model[0], with_threshold(model[1]), folder / "sample")
    stubs = []
    for part in (HERE / "stubs.java").read_text().split("// FILE ")[1:]:
        name, _, text = part.partition("\n")
        stubs.append(folder / "stubs" / name)
        stubs[-1].parent.mkdir(parents=True, exist_ok=True)
        stubs[-1].write_text(text)
    classes, jar = folder / "classes", folder / "sample.jar"
    subprocess.run(["javac", "-d", classes, *stubs], check=True)
    sources = [*(folder / "sample" / KOTLIN).glob("*.kt"), HERE / "Harness.kt"]
    words = [compiler, "-Werror", "-include-runtime", "-cp", classes, "-d", jar, *sources]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    return Kotlin(folder, jar, classes)


@dataclass(frozen=True)
class Kotlin:
    """A compiled harness; called with lines, it gives its answers."""

    folder: Path
    jar: Path
    classes: Path

    def __call__(self, *lines: str) -> list[str]:
        given, outputs = (f"-D{name}={self.folder}/{name}" for name in ("given", "outputs"))
        words = ["java", given, outputs, "-cp", f"{self.jar}:{self.classes}", "HarnessKt"]
        done = subprocess.run(words, input="\n".join(lines), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def argb(picture: Image.Image, path: Path) -> str:
    """Write a picture as Android's numbers, and return the harness's words for it: file, width and height."""
    rgba = np.asarray(picture.convert("RGBA"))
    path.write_bytes(np.ascontiguousarray(rgba[..., [2, 1, 0, 3]]).view("<u4").tobytes())
    return f"{path} {picture.width} {picture.height}"


@pytest.mark.slow
def test_pictures_are_prepared_as_in_the_evaluation(run_kotlin: Kotlin, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    sizes = {"same": (32, 24), "small": (20, 10), "wide": (333, 90), "large": (640, 480), "huge": (1000, 700)}
    pictures = {k: Image.fromarray(draw.integers(0, 256, (h, w, 3), np.uint8)) for k, (w, h) in sizes.items()}
    pictures["golden"] = Image.open(GOLDEN)
    pictures["clear"] = Image.fromarray(draw.integers(0, 256, (48, 64, 4), np.uint8), "RGBA")
    lines = []
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        lines.append(f"ordered {argb(picture, tmp_path / name)} 0 32 24 {tmp_path / name}.out")
    assert run_kotlin(*lines) == ["32 24"] * len(lines)
    for name in pictures:
        found = np.fromfile(tmp_path / f"{name}.out", np.uint8).reshape(*SIZE, 3)
        np.testing.assert_array_equal(found, decode(tmp_path / f"{name}.png", SIZE), err_msg=name)


@pytest.mark.slow
def test_pictures_are_turned_clockwise(run_kotlin: Kotlin, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    words = argb(Image.fromarray(pixels), tmp_path / "a")
    for degrees, size in {0: "10 6", 90: "6 10", 180: "10 6", 270: "6 10"}.items():
        assert run_kotlin(f"ordered {words} {degrees} {size} {tmp_path}/out") == [size]
        turned = np.rot90(pixels, -degrees // 90)
        np.testing.assert_array_equal(np.fromfile(tmp_path / "out", np.uint8).reshape(turned.shape), turned)


@pytest.mark.slow
def test_the_self_check_compares_what_the_model_gives(
    run_kotlin: Kotlin, model: tuple[Path, Interface], tmp_path: Path
) -> None:
    folder = run_kotlin.folder
    golden = [*golden_outputs(model[0]), np.float32(0.75)]
    (tmp_path / "golden.txt").write_text("".join(f"{v:.9g}\n" for v in golden))
    line = f"difference {argb(Image.open(GOLDEN), tmp_path / 'golden')} {tmp_path}/golden.txt"
    (folder / "outputs").write_text((tmp_path / "golden.txt").read_text())
    assert run_kotlin(line) == ["0.0"]
    given = np.fromfile(folder / "given", "<f4").reshape(1, 3, *SIZE)
    assert (folder / "given.shape").read_text() == "[1, 3, 24, 32]"
    np.testing.assert_array_equal(given[0], decode(GOLDEN, SIZE).transpose(2, 0, 1) / np.float32(255))
    for changed, difference in ((1, "0.5"), (3, "0.5"), (0, "NaN")):
        other = [v + (np.nan if difference == "NaN" else 0.5) * (i == changed) for i, v in enumerate(golden)]
        (folder / "outputs").write_text(" ".join("NaN" if np.isnan(v) else str(v) for v in other))
        (told,) = run_kotlin(line)
        assert float(told) == pytest.approx(float(difference), abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_classes_are_named_or_none_of_these(run_kotlin: Kotlin, tmp_path: Path) -> None:
    folder = run_kotlin.folder
    (tmp_path / "labels.txt").write_text("apple\npear\nplum\n")
    line = f"classify {argb(Image.open(GOLDEN), tmp_path / 'golden')} {tmp_path}/labels.txt"
    (folder / "outputs").write_text("1 4 -2 0.75")
    (told,) = run_kotlin(line)
    found = re.findall(r"\((\w+), ([\d.E-]+)\)", told)
    powers = np.exp(np.array([1, 4, -2]) / 2)  # its temperature
    shares = dict(zip(LABELS, powers / powers.sum(), strict=True))
    assert [name for name, _ in found] == ["pear", "apple", "plum"]
    assert {k: float(v) for k, v in found} == pytest.approx(shares, abs=1e-6)
    (folder / "outputs").write_text("1 4 -2 0.25")
    assert run_kotlin(line) == ["[]"]


# iOS


def test_the_swift_has_no_syntax_error(model: tuple[Path, Interface], tmp_path: Path) -> None:
    grammar = pytest.importorskip("tree_sitter_swift")
    from tree_sitter import Language, Parser

    write_sample("ios", model[0], with_threshold(model[1]), tmp_path / "sample")
    parser = Parser(Language(grammar.language()))
    sources = sorted((tmp_path / "sample").rglob("*.swift"))
    assert len(sources) == 7
    for source in sources:
        assert not parser.parse(source.read_bytes()).root_node.has_error, source.name
    assert parser.parse(b"struct Picture { let width: }").root_node.has_error
