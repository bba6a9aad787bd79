"""What does the tool deliver for a class list alone, and what does it cost that it tells its accuracy from storage?

    python -m benchmarks names-only --data DIR [--lists random,superclasses] [--tasks 20]

Each list goes through the command's own path without images; the ONNX file is then scored on the real test images,
of which the outputs were stored from which the report tells an accuracy.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import records
from benchmarks.setting import target_tasks
from mvp_edge.config import PruneConfig, VoteConfig
from mvp_edge.data import open_source
from mvp_edge.export import OnnxClassifier
from mvp_edge.names.tasks import Task
from mvp_edge.prune.run import compress
from mvp_edge.report import Report
from mvp_edge.training.loop import accuracy
from mvp_edge.zoo.store import Zoo, open_zoo

log = logging.getLogger("benchmarks.measurements.names_only")


def main() -> None:
    """Run the lists that have no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--lists", default="random,superclasses")
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--keep", type=float, default=VoteConfig().keep)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    zoo, source = open_zoo(args.zoo), open_source(args.data)
    done = {(r["config"]["task"], r["config"]["keep"], r["config"]["base_sha256"]) for r in records.read("names-only")}
    for lists in args.lists.split(","):
        for task in target_tasks(zoo, source.classes, 5, args.tasks, lists):
            if (task.id, args.keep, zoo.base.sha256) in done:
                continue
            test = source.load(task.names, "test", zoo.base.input_size)
            begin = time.perf_counter()
            report, logits = deliver(zoo, task, args.keep, test.images)
            result = {
                "top1": round(accuracy(logits, test).top1, 2),
                "told": report.accuracy.top1,
                "n": len(test),
                "macs": report.macs,
                "bytes": report.bytes.onnx,
                "seconds": round(time.perf_counter() - begin, 2),
            }
            config = {
                "lists": lists, "task": task.id, "classes": task.names, "keep": args.keep, "zoo": zoo.name,
                "members": len(zoo.ids()), "base_sha256": zoo.base.sha256,
            }  # fmt: skip
            records.append("names-only", config, result, torch.device("cpu"))
            log.info("%s %s: %.1f, told %.1f", lists, ",".join(task.names), result["top1"], result["told"])


def deliver(zoo: Zoo, task: Task, keep: float, images: torch.Tensor) -> tuple[Report, torch.Tensor]:
    """Return the report of a run without images, and what the delivered file says of images."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "classes.txt"
        path.write_text("".join(f"{n}\n" for n in task.names))
        out = Path(scratch) / "out"
        report = compress(PruneConfig(path, None, out, zoo=str(zoo.path), vote=VoteConfig(keep=keep)))
        return report, torch.as_tensor(OnnxClassifier(out / "model.onnx").predict(images.numpy()))


if __name__ == "__main__":
    main()
