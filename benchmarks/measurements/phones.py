"""Do the files for phone runtimes, and emulated processors, compute what ONNX Runtime does here?

    python -m benchmarks phones RESULT_DIR [RESULT_DIR ...] --pictures DIR [--arm ROOT]

Every result of `prune` is converted to each target; where its runtime runs here, logits of 100 pictures are compared
with those of the ONNX file. Without the extras `litert`, `ncnn` and `coreml` the reason is recorded.

If qemu-user is installed, the ONNX files also run on an emulated Haswell (AVX2 without VNNI, by this very Python) and,
with `--arm`, on an emulated Cortex-A76: ROOT is a directory with an aarch64 Debian's Python 3.11 (`dpkg -x` of its
packages) and `site/` with the wheels of numpy and onnxruntime 1.22 (newer ones crash in qemu 7.2).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.command import Script
from benchmarks.delivered import name_of, pictures_for
from benchmarks.runtimes.aarch64 import program
from mvp_edge.core.errors import ExportError
from mvp_edge.deploy import coreml, litert, ncnn
from mvp_edge.deploy.ort_format import fixed_batch
from mvp_edge.deploy.result import read_result
from mvp_edge.export import OnnxClassifier

EMULATED = 4  # pictures that an emulated processor is shown
TIMEOUT_S = 900
PACKAGES = ("onnxruntime", "ai-edge-litert", "ncnn", "pnnx", "coremltools")
CHILD = """
import sys, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: np.load(sys.argv[2])}
np.save(sys.argv[3], session.run([session.get_outputs()[0].name], feed)[0])
print(ort.__version__)
"""


def compared(found: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Return how near logits are to those of ONNX Runtime."""
    return {
        "max_abs_diff": float(np.abs(found - expected).max()),
        "same_top1": int((found.argmax(1) == expected.argmax(1)).sum()),
        "images": len(found),
    }


def attempt(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a result, or why there is none."""
    try:
        return make()
    except ExportError as e:
        return {"failed": str(e)}


def targets(source: Path, pixels: np.ndarray, scratch: Path) -> dict[str, dict[str, Any]]:
    """Convert an ONNX file to each target and compare."""
    single = scratch / f"single-{source.name}"
    interface = fixed_batch(source, single, 1)
    expected = OnnxClassifier(source).predict(pixels)

    def of_litert() -> dict[str, Any]:
        file = scratch / f"{source.stem}.tflite"
        litert.convert(single, file, interface)
        return {"bytes": file.stat().st_size, **compared(litert.outputs(file, pixels, interface)[0], expected)}

    def of_ncnn() -> dict[str, Any]:
        file = scratch / f"{source.stem}.param"
        ncnn.convert(single, file, interface)
        size = file.stat().st_size + file.with_suffix(".bin").stat().st_size
        return {"bytes": size, **compared(ncnn.outputs(file, pixels, interface)[0], expected)}

    def of_coreml() -> dict[str, Any]:
        file = scratch / f"{source.stem}.mlpackage"
        coreml.convert(single, file, interface)
        return {"bytes": sum(f.stat().st_size for f in file.rglob("*") if f.is_file())}

    if "int8" in source.name:
        return {"LiteRT": attempt(of_litert)}
    return {"LiteRT": attempt(of_litert), "ncnn": attempt(of_ncnn), "Core ML": attempt(of_coreml)}


def emulated(source: Path, pixels: np.ndarray, arm: Path | None, scratch: Path) -> dict[str, dict[str, Any]]:
    """Run an ONNX file on emulated processors and compare."""
    classifier = OnnxClassifier(source)
    few, found = pixels[:EMULATED], {}
    feed, made, child = scratch / "feed.npy", scratch / "logits.npy", scratch / "child.py"
    np.save(feed, few.astype(np.float32) / np.float32(255))
    child.write_text(CHILD)
    here = os.pathsep.join(p for p in sys.path if "site-packages" in p)
    machines = {"Haswell": (["qemu-x86_64", "-cpu", "Haswell", os.path.realpath(sys.executable)], {"PYTHONPATH": here})}
    if arm is not None:
        machines["Cortex-A76"] = program(arm)
    for name, (command, own) in machines.items():
        if shutil.which(command[0]) is None:
            found[name] = {"failed": f"{command[0]} is not installed"}
            continue
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONHOME"} | own | {"OPENBLAS_NUM_THREADS": "1"}
        words = [*command, str(child), str(source), str(feed), str(made)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            found[name] = {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
        else:
            found[name] = compared(np.load(made), classifier.predict(few)) | {"onnxruntime": done.stdout.strip()}
    return found


def main(argv: Sequence[str]) -> None:
    """Compare all targets of results and append a record for each."""
    script = Script("phones", __doc__)
    script.add("results", nargs="+", type=Path, metavar="RESULT_DIR")
    script.add("--pictures", type=Path, required=True)
    script.add("--arm", type=Path, metavar="ROOT")
    args = script.parse(argv)
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    for directory in args.results:
        result = read_result(directory)
        pixels = pictures_for(result, args.pictures)
        exact, found = OnnxClassifier(result.models["fp32"]).predict(pixels), {}
        for precision, source in result.models.items():
            with TemporaryDirectory() as scratch:
                own: dict[str, Any] = {"bytes": source.stat().st_size}
                own |= (
                    {} if precision == "fp32" else {"beside": compared(OnnxClassifier(source).predict(pixels), exact)}
                )
                own |= {"targets": targets(source, pixels, Path(scratch))}
                found[precision] = own | {"emulated": emulated(source, pixels, args.arm, Path(scratch))}
        script.record({"network": name_of(result), "pictures": len(pixels), "versions": versions}, found)
