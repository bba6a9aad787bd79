"""How long does the main job take, from the typed command to the report?

python -m benchmarks.prune_time --data DIR --runs 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import records

CLASSES = "apple\norange\npear\nmushroom\nsweet_pepper\n"


def main() -> None:
    """Run the command several times in fresh processes and append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    walls, reports = [], []
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "classes.txt").write_text(CLASSES)
        for run in range(args.runs):
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "mvp_edge_cli", "prune", "--task", "classes.txt", "--data",
                 str(Path(args.data).resolve()), "--out", f"out{run}", "--json"],
                cwd=scratch, capture_output=True, text=True, check=True,
            )  # fmt: skip
            walls.append(time.perf_counter() - begin)
            reports.append(json.loads(done.stdout))
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mvp_edge_cli", "--help"], capture_output=True, check=True)
        help_s = time.perf_counter() - begin
    stages = {k: round(statistics.median(r["seconds"][k] for r in reports), 2) for k in reports[0]["seconds"]}
    result = {
        "wall_s": [round(w, 1) for w in walls],
        "median_s": round(statistics.median(walls), 1),
        "help_s": round(help_s, 3),
        "stages_median_s": stages,
        "top1": [r["accuracy"]["top1"] for r in reports],
        "latency_ms": reports[-1]["latency_ms"],
        "bytes": reports[-1]["bytes"],
        "macs": reports[-1]["macs"],
        "base_macs": reports[-1]["base_macs"],
    }
    records.append("prune-time", {"classes": CLASSES.split(), "runs": args.runs}, result, torch.device("cpu"))


if __name__ == "__main__":
    main()
