"""Runtimes of other makers: each loads an ONNX file and returns its logits. Run by `benchmarks.runtimes`.

    python -m benchmarks.other_runtimes NAME FILE.onnx FEEDS.npz LOGITS.npz

The last line of stderr says what went wrong.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Runner = Callable[[np.ndarray], np.ndarray]


def with_openvino(path: Path, scratch: Path) -> Runner:
    """Load a file with OpenVINO in single precision; its own choice on some processors is bfloat16."""
    import openvino  # pyright: ignore[reportMissingImports]

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda images: np.array(compiled(images)[0])


def with_mnn(path: Path, scratch: Path) -> Runner:
    """Convert a file for MNN and load it.

    The converter's function is called, not its script: that one reports to its maker and installs packages.
    """
    import _tools  # pyright: ignore[reportMissingImports]
    from MNN import expr, nn  # pyright: ignore[reportMissingImports]

    converted = scratch / f"{path.stem}.mnn"
    _tools.mnnconvert(["", "-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(converted), "--bizCode", "x"])
    if not converted.is_file():
        raise RuntimeError("the converter wrote no file")
    image, output = _ends(path)
    network = nn.load_module_from_file(str(converted), [image], [output])

    def run(images: np.ndarray) -> np.ndarray:
        placed = expr.const(images, images.shape, expr.NCHW)  # pyright: ignore[reportAttributeAccessIssue]
        logits = expr.convert(network.forward([placed])[0], expr.NCHW)  # pyright: ignore[reportAttributeAccessIssue]
        return np.array(logits.read())

    return run


def _ends(path: Path) -> tuple[str, str]:
    """Return the names of a file's image input and of its logits."""
    import onnx

    graph = onnx.load(path).graph
    return graph.input[0].name, graph.output[0].name


RUNTIMES: dict[str, Callable[[Path, Path], Runner]] = {"openvino": with_openvino, "MNN": with_mnn}


def main(name: str, file: str, feeds: str, made: str) -> None:
    """Run one file with one runtime."""
    with tempfile.TemporaryDirectory() as scratch, np.load(feeds) as given:
        run = RUNTIMES[name](Path(file), Path(scratch))
        np.savez(made, *[run(given[key]) for key in given.files])


if __name__ == "__main__":
    main(*sys.argv[1:])
