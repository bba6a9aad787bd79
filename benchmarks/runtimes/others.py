"""Runtimes of other makers: each loads an ONNX file and returns its logits. Run by `measurements.runtimes`.

    python -m benchmarks runtimes.others NAME FILE.onnx FEEDS.npz LOGITS.npz

The last line of stderr says what went wrong.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from benchmarks.runtimes.web import Runner, web_version, with_ort_web


@dataclass(frozen=True)
class Runtime:
    """A runtime that need not be installed.

    Attributes:
        load: Opens an ONNX file and gives a function from images to logits, until the context ends.
        version: Tells the version, or None where it is not installed.
    """

    load: Callable[[Path], AbstractContextManager[Runner]]
    version: Callable[[], str | None]


@contextmanager
def with_openvino(path: Path) -> Iterator[Runner]:
    """Load a file with OpenVINO in single precision.

    Its own choice on some processors is bfloat16, and 8-bit activations where weights lie in eight bits.
    """
    openvino = import_module("openvino")

    settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0, "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    yield lambda images: np.array(compiled(images)[0])


@contextmanager
def with_mnn(path: Path) -> Iterator[Runner]:
    """Convert a file for MNN and load it.

    The converter's function is called, not its script: that one reports to its maker and installs packages.
    """
    tools, expr, nn = (import_module(name) for name in ("_tools", "MNN.expr", "MNN.nn"))

    image, output = _ends(path)
    with tempfile.TemporaryDirectory() as scratch:
        converted = Path(scratch) / f"{path.stem}.mnn"
        tools.mnnconvert(["", "-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(converted), "--bizCode", "x"])
        if not converted.is_file():
            raise RuntimeError("the converter wrote no file")
        network = nn.load_module_from_file(str(converted), [image], [output])

    def run(images: np.ndarray) -> np.ndarray:
        placed = expr.const(images, images.shape, expr.NCHW)
        logits = expr.convert(network.forward([placed])[0], expr.NCHW)
        return np.array(logits.read())

    yield run


@contextmanager
def with_tract(path: Path) -> Iterator[Runner]:
    """Load a file with tract, which wants to know the batch beforehand."""
    tract = import_module("tract")

    kinds = {"float32": "f32", "uint8": "u8"}

    def run(images: np.ndarray) -> np.ndarray:
        network = tract.onnx().load(str(path))
        network.set_input_fact(0, ",".join([*map(str, images.shape), kinds[images.dtype.name]]))
        return np.array(network.into_model().into_runnable().run([images])[0].to_numpy())

    yield run


def _ends(path: Path) -> tuple[str, str]:
    """Return the names of a file's image input and of its logits."""
    import onnx

    graph = onnx.load(path).graph
    return graph.input[0].name, graph.output[0].name


def packaged(name: str) -> str | None:
    """Return the version of a Python package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


RUNTIMES = {
    "openvino": Runtime(with_openvino, partial(packaged, "openvino")),
    "MNN": Runtime(with_mnn, partial(packaged, "MNN")),
    "tract": Runtime(with_tract, partial(packaged, "tract")),
    "onnxruntime-web": Runtime(with_ort_web, web_version),
}


def main(name: str, file: str, feeds: str, made: str) -> None:
    """Run one file with one runtime."""
    with np.load(feeds) as given, RUNTIMES[name].load(Path(file)) as run:
        np.savez(made, *[run(given[key]) for key in given.files])


if __name__ == "__main__":
    main(*sys.argv[1:])
