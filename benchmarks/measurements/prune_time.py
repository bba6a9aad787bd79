"""How long does the main job take, from the typed command to the report, and how much memory?

python -m benchmarks prune-time [--classes A,B] [--data DIR] [--zoo ZOO] [--runs 5]

Without images, Chromium takes a picture of the last report, where there is one.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from PIL import Image

from benchmarks.command import Script
from benchmarks.records import FIGURES
from benchmarks.runtimes.chromium import Page, find_chromium

PICTURE = FIGURES / "report.png"
WIDTH, MARGIN = 1100, 8  # pixels
LAST = "use"  # the last section that the picture shows
CLASSES = "espresso,teapot,laptop,bicycle,dog"


# Runs a command and tells its peak memory: a process forked from this one, which is large, would count this one's.
WATCH = (
    "import resource, subprocess, sys\n"
    "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)\n"
    "print(done.stdout, end='')\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)"
)


def main(argv: Sequence[str]) -> None:
    """Run the command several times in fresh processes, with images if there are any, and append a record."""
    script = Script("prune-time", __doc__)
    script.add("--data", help="images; without, from names alone")
    script.add("--runs", type=int, default=5)
    script.add("--classes", default=CLASSES)
    script.add("--zoo", help="default: the bundled one")
    args = script.parse(argv)
    command = [sys.executable, "-m", "mvp_edge_cli", "prune", "--task", "classes.txt", "--out", "out", "--force"]
    if args.data:
        command += ["--data", str(Path(args.data).resolve())]
    if args.zoo:
        command += ["--zoo", str(Path(args.zoo).resolve())]
    walls, reports, printed, peaks = [], [], "", []
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "classes.txt").write_text("\n".join(args.classes.split(",")))
        for _ in range(args.runs):
            begin = time.perf_counter()
            watched = [sys.executable, "-c", WATCH, *command]
            done = subprocess.run(watched, cwd=scratch, capture_output=True, text=True, check=True)
            printed, peaks = done.stdout, [*peaks, int(done.stderr)]
            walls.append(time.perf_counter() - begin)
            reports.append(json.loads((Path(scratch) / "out" / "report.json").read_text()))
        if not args.data and (browser := find_chromium()):
            take_picture(browser, Path(scratch))
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mvp_edge_cli", "--help"], capture_output=True, check=True)
        help_s = time.perf_counter() - begin
    stages = {k: round(statistics.median(r["seconds"][k] for r in reports), 2) for k in reports[0]["seconds"]}
    result = {
        "wall_s": [round(w, 1) for w in walls],
        "median_s": round(statistics.median(walls), 1),
        "peak_mib": round(max(peaks) / 1024),
        "help_s": round(help_s, 3),
        "stages_median_s": stages,
        "top1": [r["accuracy"]["top1"] for r in reports],
        "expected": None if reports[-1]["estimate"] is None else reports[-1]["estimate"]["top1"],
        "latency_ms": reports[-1]["latency_ms"],
        "bytes": reports[-1]["bytes"],
        "macs": reports[-1]["macs"],
        "base_macs": reports[-1]["base_macs"],
        "printed": [line.rstrip() for line in printed.splitlines()],
    }
    config = {
        "classes": args.classes.split(","),
        "runs": args.runs,
        "images": bool(args.data),
        "zoo": reports[-1]["zoo"],
    }
    script.record(config, result)


def take_picture(browser: str, directory: Path) -> None:
    """Keep what is first seen of a report, in few colours."""
    with closing(Page(browser, directory / "profile")) as page:
        page.resize(WIDTH, WIDTH)
        page.open((directory / "out" / "report.html").as_uri())
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        bottom = page.run(f"document.getElementById('{LAST}').closest('section').getBoundingClientRect().bottom")
        page.resize(WIDTH, round(bottom) + MARGIN)
        page.screenshot(directory / "report.png")
    data = io.BytesIO()
    Image.open(directory / "report.png").convert("RGB").quantize(128).save(data, "PNG", optimize=True)
    PICTURE.write_bytes(data.getvalue())
