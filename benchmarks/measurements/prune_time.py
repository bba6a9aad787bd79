"""How long does the main job take, from the typed command to the report, and how much memory?

    python -m benchmarks prune-time [--classes A,B] [--data DIR] [--zoo ZOO] [--max-macs M] [--runs 5]
        [--beside PYTHON]

Without images, Chromium takes a picture of the last report, where there is one. `--beside` names the Python of an
environment where another commit is installed from its checkout: the two take turns, each with its own default zoo
unless `--zoo` names one for this version.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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


@dataclass
class Runs:
    """Runs of one version's command: seconds from the typed command to its end, KiB of memory, and reports."""

    command: list[str]
    environment: dict[str, str] | None = None
    walls: list[float] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    printed: str = ""

    def run(self, directory: Path) -> None:
        """Run the command once."""
        begin = time.perf_counter()
        watched = [sys.executable, "-c", WATCH, *self.command]
        done = subprocess.run(watched, cwd=directory, capture_output=True, text=True, check=True, env=self.environment)
        self.walls.append(time.perf_counter() - begin)
        self.peaks.append(int(done.stderr))
        self.reports.append(json.loads((directory / "out" / "report.json").read_text()))
        self.printed = done.stdout

    def told(self) -> dict[str, Any]:
        """Return medians of time, overall and by stage, and the peak of memory."""
        seconds = [r["seconds"] for r in self.reports]
        return {
            "wall_s": [round(w, 1) for w in self.walls],
            "median_s": round(statistics.median(self.walls), 1),
            "peak_mib": round(max(self.peaks) / 1024),
            "stages_median_s": {k: round(statistics.median(s[k] for s in seconds), 2) for k in seconds[0]},
        }


def main(argv: Sequence[str]) -> None:
    """Run the command several times in fresh processes, with images if there are any, and append a record."""
    script = Script("prune-time", __doc__)
    script.add("--data", help="images; without, from names alone")
    script.add("--runs", type=int, default=5)
    script.add("--classes", default=CLASSES)
    script.add("--zoo", help="default: the bundled one")
    script.add("--max-macs", help="such as 130M; default: no budget")
    script.add("--beside", type=Path, metavar="PYTHON", help="of an environment with another commit")
    args = script.parse(argv)
    words = ["-m", "mvp_edge_cli", "prune", "--task", "classes.txt", "--out", "out", "--force"]
    if args.data:
        words += ["--data", str(Path(args.data).resolve())]
    if args.max_macs:
        words += ["--max-macs", args.max_macs]
    ours = Runs([sys.executable, *words, *(["--zoo", str(Path(args.zoo).resolve())] if args.zoo else [])])
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    other = Runs([str(args.beside), *words], clean) if args.beside else None
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "classes.txt").write_text("\n".join(args.classes.split(",")))
        for _ in range(args.runs):
            for version in (other, ours):
                if version is not None:
                    version.run(Path(scratch))
        if not args.data and other is None and (browser := find_chromium()):
            take_picture(browser, Path(scratch))
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mvp_edge_cli", "--help"], capture_output=True, check=True)
        help_s = time.perf_counter() - begin
    last = ours.reports[-1]
    result = {
        **ours.told(),
        "help_s": round(help_s, 3),
        "top1": [r["accuracy"]["top1"] for r in ours.reports],
        "expected": None if last["estimate"] is None else last["estimate"]["top1"],
        "latency_ms": last["latency_ms"],
        "bytes": last["bytes"],
        "macs": last["macs"],
        "base_macs": last["base_macs"],
        "printed": [line.rstrip() for line in ours.printed.splitlines()],
    }
    config = {
        "classes": args.classes.split(","),
        "runs": args.runs,
        "images": bool(args.data),
        "zoo": last["zoo"],
    }
    if args.max_macs:
        config["max_macs"] = args.max_macs
    if other is not None:
        result["beside"] = {**other.told(), "macs": other.reports[-1]["macs"]}
        config["beside"] = commit_of(args.beside, clean)
    script.record(config, result)


def commit_of(python: Path, environment: dict[str, str]) -> str:
    """Return the commit of the checkout that an environment has installed."""
    where = [str(python), "-c", "import mvp_edge; print(mvp_edge.__path__[0])"]
    place = subprocess.run(where, capture_output=True, text=True, check=True, env=environment, cwd="/").stdout.strip()
    head = ["git", "-C", place, "rev-parse", "--short", "HEAD"]
    return subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()


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
