"""Sample projects: an app that shows what the camera sees, and checks itself against a picture with known outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from mvp_edge.core.environment import own_version
from mvp_edge.core.output import SAMPLE_SUMS, checksum_line
from mvp_edge.core.templates import load_template
from mvp_edge.data.images import decode
from mvp_edge.export import OnnxClassifier
from mvp_edge.export.classifier import Interface

Platform = Literal["android", "ios"]
RESOURCES: dict[Platform, str] = {"android": "app/src/main/assets", "ios": "Sources/Classifier/Resources"}
SOURCES = Path(__file__).with_name("samples")
GOLDEN = SOURCES / "golden.png"
MODEL = "model.onnx"
# Of an output of the golden picture, and of the largest one: processors' float32 differs by 1e-5; another crop, another
# order of colours or half precision by more.
TOLERANCE = 1e-3


def write_sample(platform: Platform, model: Path, interface: Interface, folder: Path) -> None:
    """Write a Gradle project or a Swift package into a new folder, and the checksums of its files.

    Args:
        platform: The kind of phone.
        model: ONNX file that takes one picture.
        interface: What it takes and gives.
        folder: Is created.
    """
    outputs = golden_outputs(model)
    height, width = interface.size
    values = {
        "file": MODEL, "interface": interface, "height": height, "width": width, "version": own_version(),
        "tolerance": f"{TOLERANCE * max(1.0, float(np.abs(outputs).max())):.2g}",
    }  # fmt: skip
    files = {}
    root = SOURCES / platform
    for source in (f for f in root.rglob("*") if f.is_file()):
        place = source.relative_to(root)
        if source.suffix == ".j2":
            template = load_template(f"deploy/samples/{platform}/{place.parent.as_posix()}", source.name)
            files[place.with_suffix("")] = f"{template.render(values)}\n".encode()
        else:
            files[place] = source.read_bytes()
    resources = Path(RESOURCES[platform])
    files[resources / MODEL] = model.read_bytes()
    files[resources / GOLDEN.name] = GOLDEN.read_bytes()
    files[resources / "golden.txt"] = "".join(f"{value:.9g}\n" for value in outputs).encode()
    files[resources / "labels.txt"] = "".join(f"{label}\n" for label in interface.labels).encode()
    for place, data in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(data)
    sums = [f"{checksum_line(data, place.as_posix())}\n" for place, data in sorted(files.items())]
    (folder / SAMPLE_SUMS).write_text("".join(sums), encoding="utf-8")


def golden_outputs(model: Path) -> np.ndarray:
    """Return what a file gives of the golden picture: its logits, and `known` behind them if it has that output."""
    classifier = OnnxClassifier(model)
    logits, known = classifier.outputs(decode(GOLDEN, classifier.input_size).transpose(2, 0, 1)[None])
    return logits[0] if known is None else np.append(logits[0], known[0])
