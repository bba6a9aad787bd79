"""Do other runtimes compute what ONNX Runtime does from the files that are delivered?

    python -m benchmarks runtimes --data DIR [--zoo DIR]
    python -m benchmarks runtimes FILE.onnx ...

Without files: a generalist cut to five classes, its INT8 form, and the whole base. Each runtime gets the same random
images, one and as a batch, and with `--data` a batch of test images. The runtimes are no dependencies;
whoever runs this installs them:

    pip install openvino MNN

and, for onnxruntime-web, Chromium; the rest comes from npm. One that is not there, or fails, is recorded with the
reason.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command import Script
from benchmarks.runtimes.others import RUNTIMES
from mvp_edge.data import open_source
from mvp_edge.models.bases import Base
from mvp_edge.timing.session import open_session

AGREES = 1e-3  # largest difference of any logit
BATCHES = (1, 7)
IMAGES = 100  # for the share of equal top-1
CLASSES = ("apple", "mushroom", "orange", "pear", "sweet_pepper")
TIMEOUT_S = 600


def compare(path: Path, pixels: np.ndarray | None = None) -> dict[str, Any]:
    """Return what each runtime's logits of one file differ by from ONNX Runtime's, or what went wrong.

    Args:
        path: An ONNX file.
        pixels: uint8 images `(N, C, H, W)` to be classified besides random ones; more random ones if not given.
    """
    session = open_session(path)
    draw = np.random.default_rng(0)
    shape = (session.channels, *session.input_size)
    sets = [draw.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (*BATCHES, IMAGES)]
    if pixels is not None:
        sets[-1] = pixels
    feeds = [session.feed(pixels) for pixels in sets]
    expected = [session.run(images) for images in feeds]
    found: dict[str, Any] = {"largest_logit": round(float(max(np.abs(e).max() for e in expected)), 3)}
    for name in RUNTIMES:
        found[name] = judged(logits, expected) if isinstance(logits := ask(name, path, feeds), list) else logits
    return found


def ask(name: str, path: Path, feeds: Sequence[np.ndarray]) -> list[np.ndarray] | dict[str, str]:
    """Return the logits of a runtime for each batch, or why there are none; in a process of its own, as some abort."""
    with tempfile.TemporaryDirectory() as scratch:
        given, made = Path(scratch) / "feeds.npz", Path(scratch) / "logits.npz"
        np.savez(given, *feeds)
        words = [sys.executable, "-m", "benchmarks.runtimes.others", name, str(path), str(given), str(made)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"no end after {TIMEOUT_S} s"}
        if done.returncode == 0:
            with np.load(made) as logits:
                return [logits[key] for key in logits.files]
    told = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return {"failed": (told or [f"exit status {done.returncode}"])[-1]}


def judged(logits: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return how near logits are to those expected, over all batches, or why they cannot be compared."""
    if [v.shape for v in logits] != [v.shape for v in expected]:
        return {"failed": f"outputs of shape {logits[0].shape} instead of {expected[0].shape}"}
    if not all(np.isfinite(v).all() for v in logits):
        return {"failed": "outputs are not finite"}
    difference = max(float(np.abs(a - b).max()) for a, b in zip(logits, expected, strict=True))
    same = np.concatenate([a.argmax(1) == b.argmax(1) for a, b in zip(logits, expected, strict=True)])
    return {
        "max_abs_diff": difference,
        "agrees": difference <= AGREES,
        "same_top1": int(same.sum()),
        "images": len(same),
    }


def delivered(data: str, zoo: str | None, scratch: Path) -> dict[str, Path]:
    """Return what the main job delivers without fine-tuning, and the whole base."""
    from mvp_edge.config import FitOverrides, PruneConfig
    from mvp_edge.deploy.result import read_result, write_dense
    from mvp_edge.prune.run import compress

    (scratch / "classes.txt").write_text("".join(f"{c}\n" for c in CLASSES))
    out, dense = scratch / "out", scratch / "dense.onnx"
    untrained = FitOverrides(iterations=0)
    compress(PruneConfig(scratch / "classes.txt", data, out, zoo=zoo, fit=untrained, precision="int8", device="cpu"))
    result = read_result(out)
    write_dense(result, zoo, dense)
    return {"pruned": result.models["fp32"], "pruned, INT8": result.models["int8"], "whole base": dense}


def test_images(data: str, base: Base) -> np.ndarray:
    """Return uint8 images `(N, 3, H, W)` of the test split, of all its classes."""
    images = open_source(data).load(None, "test", base.input_size).images
    return images[:: max(1, len(images) // IMAGES)][:IMAGES].numpy()


def installed() -> dict[str, str | None]:
    """Return the version of each runtime, None where it is not installed."""
    return {name: runtime.version() for name, runtime in RUNTIMES.items()}


def main(argv: Sequence[str]) -> None:
    """Compare and append a record."""
    script = Script("runtimes", __doc__, "zoo")
    script.add("files", nargs="*", type=Path, metavar="FILE.onnx")
    script.add("--data", metavar="DIR")
    args = script.parse(argv)
    if not (args.files or args.data):
        script.parser.error("give --data DIR or files")
    base = None if args.files else script.zoo.base
    pixels = test_images(args.data, base) if base else None
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        files = {f.name: f for f in args.files} or delivered(args.data, args.zoo, scratch)
        result = {title: compare(path, pixels) for title, path in files.items()}
    config = {
        "base": base and base.name, "files": list(files), "agrees": AGREES, "batches": BATCHES,
        "images": "random" if pixels is None else f"{len(pixels)} test images", "versions": installed(),
    }  # fmt: skip
    script.record(config, result)
