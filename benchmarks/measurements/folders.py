"""How long do large folders take, and how much memory?

    python -m benchmarks folders [--files 1000000] [--small 100000] [--large 500] [--scratch DIR]

In a temporary directory are made: a folder of empty files in 100 classes, and a CSV that lists them; a folder of small
pictures (48 x 48) in 100 classes; a folder of large ones (4000 x 3000, links to one file). The first two are listed,
the last two are looked at as `mvp-edge data` does. Each runs in a process of its own. One record for each, in
`results/measurements/folders.jsonl`: seconds, seconds of the processor, and MiB of memory above those before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.command import Script
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.data.look import look

CLASSES = 100


def main(argv: Sequence[str]) -> None:
    """Make the folders, and measure each."""
    script = Script("folders", __doc__)
    script.add("--files", type=int, default=1_000_000)
    script.add("--small", type=int, default=100_000)
    script.add("--large", type=int, default=500)
    script.add("--scratch", type=Path, help="where the folders are made; default: the temporary directory")
    script.add("--measure", help="only print what this takes")
    args = script.parse(argv)
    if args.measure:
        print(json.dumps(measured(*args.measure.split(":", 1))))
        return
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        place = Path(scratch)
        for what, make, count, how in (
            ("folder", make_empty, args.files, "list"),
            ("list.csv", make_list, args.files, "list"),
            ("small", make_small, args.small, "look"),
            ("large", make_large, args.large, "look"),
        ):
            if count == 0:
                continue
            make(place, count)
            command = [sys.executable, "-m", "benchmarks", "folders", "--measure", f"{how}:{place / what}"]
            command += ["--allow-dirty"] * args.allow_dirty
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            script.record({"data": what, "files": count, "how": how}, json.loads(done.stdout.splitlines()[-1]))


def measured(how: str, place: str) -> dict[str, float | int]:
    """Return the time and memory of listing data, or of looking at them."""
    before, began, own = peak_mib(), time.perf_counter(), time.process_time()
    source = open_source(place)
    if how == "look":
        look(source, SilentProgress())
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "processor_s": round(time.process_time() - own, 2),
        "mib": round(peak_mib() - before),
        "given": source.listing.given,
    }


def peak_mib() -> float:
    """Return the largest memory that this process has had."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def make_empty(place: Path, count: int) -> None:
    """Make empty files, named as pictures."""
    for label in range(CLASSES):
        folder = place / "folder" / "train" / f"class {label:03d}"
        folder.mkdir(parents=True)
        for i in range(label, count, CLASSES):
            os.close(os.open(folder / f"IMG_{i:07d}.jpg", os.O_CREAT | os.O_WRONLY))


def make_list(place: Path, count: int) -> None:
    """Write a list of the empty files."""
    with (place / "list.csv").open("w") as file:
        file.write("path,label,split\n")
        for i in range(count):
            label = f"class {i % CLASSES:03d}"
            file.write(f"folder/train/{label}/IMG_{i:07d}.jpg,{label},{'train' if i % 5 else 'test'}\n")


def make_small(place: Path, count: int) -> None:
    """Write small pictures, all different."""
    generator = np.random.default_rng(0)
    for i in range(count):
        folder = place / "small" / f"class {i % CLASSES:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=80)


def make_large(place: Path, count: int) -> None:
    """Write a large picture, under many names."""
    (place / "large" / "a").mkdir(parents=True)
    (place / "large" / "b").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    first = place / "large" / "a" / "first.jpg"
    Image.fromarray(pixels).resize((4000, 3000)).save(first, quality=90)
    for i in range(1, count):
        os.link(first, place / "large" / "ab"[i % 2] / f"{i}.jpg")
