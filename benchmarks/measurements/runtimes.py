"""Do other runtimes compute what ONNX Runtime does from the files that are delivered?

    python -m benchmarks runtimes RESULT_DIR [RESULT_DIR ...] --pictures DIR

Each runtime gets the ONNX files of results of `prune`, with random images, one and a few, and with about 100 pictures.
The runtimes are no dependencies; whoever runs this installs them:

    pip install openvino MNN tract

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
from benchmarks.delivered import name_of, pictures_for
from benchmarks.runtimes.others import RUNTIMES
from mvp_edge.deploy.result import read_result
from mvp_edge.timing.session import open_session

AGREES = 1e-3  # largest difference of any logit
BATCHES = (1, 7)
TIMEOUT_S = 600


def compare(path: Path, pixels: np.ndarray) -> dict[str, Any]:
    """Return what each runtime's logits of one file differ by from ONNX Runtime's, or what went wrong.

    Args:
        path: An ONNX file.
        pixels: uint8 images `(N, C, H, W)` to be classified besides random ones.
    """
    session = open_session(path)
    draw = np.random.default_rng(0)
    shape = (session.channels, *session.input_size)
    sets = [*(draw.integers(0, 256, (n, *shape), dtype=np.uint8) for n in BATCHES), pixels]
    feeds = [session.feed(images) for images in sets]
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


def installed() -> dict[str, str | None]:
    """Return the version of each runtime, None where it is not installed."""
    return {name: runtime.version() for name, runtime in RUNTIMES.items()}


def main(argv: Sequence[str]) -> None:
    """Compare the files of results and append a record for each."""
    script = Script("runtimes", __doc__)
    script.add("results", nargs="+", type=Path, metavar="RESULT_DIR")
    script.add("--pictures", type=Path, required=True)
    args = script.parse(argv)
    for directory in args.results:
        result = read_result(directory)
        pixels = pictures_for(result, args.pictures)
        found = {precision: compare(path, pixels) for precision, path in result.models.items()}
        config = {"network": name_of(result), "pictures": len(pixels), "agrees": AGREES, "versions": installed()}
        script.record(config, found)
