"""What does the tool deliver for a class list alone, and what does it cost that it tells its accuracy from storage?

    python -m benchmarks names-only --data DIR [--lists random,superclasses] [--tasks 20]

Each list goes through the command's own path without images; the ONNX file is then scored on the real test images,
of which the outputs were stored from which the report tells an accuracy.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.command import Script
from mvp_edge.config import PruneConfig, VoteConfig
from mvp_edge.export import OnnxClassifier
from mvp_edge.names.tasks import Task
from mvp_edge.prune.job import compress
from mvp_edge.report import Report
from mvp_edge.training.loop import accuracy
from mvp_edge.zoo.store import Zoo


def main(argv: Sequence[str]) -> None:
    """Run the lists that have no record yet."""
    script = Script("names-only", __doc__, "data", "zoo", "tasks")
    script.add("--lists", default="random,superclasses")
    script.add("--keep", type=float, default=VoteConfig().keep)
    args = script.parse(argv)
    zoo = script.zoo
    done = {(c["task"], c["keep"], c["base_sha256"]) for c in script.done()}
    for lists in args.lists.split(","):
        for task in script.tasks(lists):
            if (task.id, args.keep, zoo.base.sha256) in done:
                continue
            test = script.source.load(task.names, "test", zoo.base.input_size)
            begin = time.perf_counter()
            report, logits = deliver(zoo, task, args.keep, test.images)
            config = {
                "lists": lists, "task": task.id, "classes": task.names, "keep": args.keep, "zoo": zoo.name,
                "members": len(zoo.ids()), "base_sha256": zoo.base.sha256,
            }  # fmt: skip
            result = {
                "top1": round(accuracy(logits, test).top1, 2), "told": report.accuracy.top1, "n": len(test),
                "macs": report.macs, "bytes": report.bytes.onnx,
                "seconds": round(time.perf_counter() - begin, 2),
            }  # fmt: skip
            script.record(config, result)


def deliver(zoo: Zoo, task: Task, keep: float, images: torch.Tensor) -> tuple[Report, torch.Tensor]:
    """Return the report of a run without images, and what the delivered file says of images."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "classes.txt"
        path.write_text("".join(f"{n}\n" for n in task.names))
        out = Path(scratch) / "out"
        report = compress(PruneConfig(path, None, out, zoo=str(zoo.path), vote=VoteConfig(keep=keep)))
        return report, torch.as_tensor(OnnxClassifier(out / "model.onnx").predict(images.numpy()))
