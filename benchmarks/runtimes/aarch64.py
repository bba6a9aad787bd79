"""An emulated phone processor: programs of an aarch64 Debian in qemu-user, and how many instructions they execute."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

CPU = "cortex-a76"
PLUGIN = Path(__file__).with_name("count.c")
# A warm-up and one run between two calls that the plugin sees; the files come one after the other.
CHILD = """
import os, sys
import numpy as np, onnxruntime as ort
for path in sys.argv[1:]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in image.shape]
    feed = {image.name: np.random.default_rng(0).random(shape, np.float32)}
    session.run(None, feed)
    os.getppid()
    session.run(None, feed)
    os.getppid()
"""


def program(root: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs Python on the emulated processor, and its environment.

    Args:
        root: An aarch64 Debian's Python 3.11, and `site/` with its packages.
        options: Of qemu.
    """
    words = ["qemu-aarch64", "-L", str(root), "-cpu", CPU, *options, str(root / "usr/bin/python3.11")]
    own = {"PYTHONPATH": str(root / "site"), "PYTHONHOME": str(root / "usr"), "OPENBLAS_NUM_THREADS": "1"}
    return words, {**os.environ, **own}


def count_instructions(files: Sequence[Path], root: Path, scratch: Path, timeout_s: float) -> list[int]:
    """Return the instructions of one inference of each ONNX file whose input is float32, on one thread.

    Raises:
        RuntimeError: the plugin cannot be compiled, or the program ends early.
    """
    plugin = scratch / "count.so"
    child = scratch / "child.py"
    child.write_text(CHILD, encoding="utf-8")
    _run(["cc", "-shared", "-fPIC", "-O2", "-o", str(plugin), str(PLUGIN)], None, 60)
    words, environment = program(root, "-plugin", str(plugin))
    told = _run([*words, str(child), *map(str, files)], environment, timeout_s)
    found = [int(n) for n in re.findall(r"^executed (\d+)$", told, re.MULTILINE)]
    if len(found) != 2 * len(files):
        raise RuntimeError(f"{len(found)} counts of {len(files)} files, where two of each are needed")
    return [after - before for before, after in zip(found[::2], found[1::2], strict=True)]


def _run(words: Sequence[str], environment: dict[str, str] | None, timeout_s: float) -> str:
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{words[0]} ended with {done.returncode}: {last}")
    return done.stderr
