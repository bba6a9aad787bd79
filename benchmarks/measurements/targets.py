"""How good is a model for a new task? MVP, its rivals and its baselines on the same target tasks, test split.

    python -m benchmarks targets --data DIR [--zoo DIR] [--tasks 20] [--methods mvp-100,ifp-1000] [--lists superclasses]

Every finished (task, method) is one record; a run goes on where it was stopped. Choices were made with
`--split held-out`, which trains on 80 % of the training images and scores on the rest; the test split only reports.
Members have seen the training images. `--split unseen` takes a fifth of the test images to train on and scores on the
others: what few images are worth that are as new to the members as a user's own.
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import replace
from typing import Any

from benchmarks import records
from benchmarks.methods import (
    ANY,
    DISTILLED,
    GENERALIST,
    NONE,
    PAPER,
    SPECIALISTS,
    UNTAUGHT,
    Method,
    at_random,
    delivered,
    few,
    from_parent,
    iterative,
    taught,
    voted,
    whole_base,
    whole_base_tuned,
)
from benchmarks.setting import Setting, by_base, by_cascade, by_member, load, target_tasks
from mvp_edge.config import FitConfig
from mvp_edge.core.device import resolve_device
from mvp_edge.data import open_source
from mvp_edge.models.macs import count_macs
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.zoo.store import open_zoo

log = logging.getLogger("benchmarks.measurements.targets")
NARROW_VOTERS = ("mvp", "one-neighbour", "any")
METHODS: dict[str, Method] = {
    "default": delivered(UNTAUGHT),
    "few-5": few(5, delivered(UNTAUGHT)),
    "few-20": few(20, delivered(UNTAUGHT)),
    "few-100": few(100, delivered(UNTAUGHT)),
    "mvp-100": voted(SPECIALISTS, PAPER),
    "mvp-rate-100": voted(
        SPECIALISTS, replace(PAPER, lr=0.1)
    ),  # as the experiment `rates` has chosen on held-out images
    "mvp-sample-100": voted(replace(SPECIALISTS, vote="sample"), PAPER),
    "mvp-distill-100": voted(SPECIALISTS, DISTILLED),
    "mvp-0": voted(SPECIALISTS, NONE),
    "one-neighbour-100": voted(replace(SPECIALISTS, neighbours=1), PAPER),
    "random-100": at_random(PAPER),
    "ifp-100": iterative(100),
    "ifp-300": iterative(300, 0.02),
    "ifp-1000": iterative(1000),
    "member-200": from_parent(FitConfig(iterations=200, batch_size=64, lr=0.03, distill=0.9), every=5),
    "generalist-0": voted(GENERALIST, NONE),
    "generalist-100": voted(GENERALIST, PAPER),
    "untaught": voted(GENERALIST, UNTAUGHT),
    "taught-by-cascade": taught(by_cascade, DISTILLED),
    "taught-by-base": taught(by_base, DISTILLED),
    "taught-by-member": taught(by_member, DISTILLED),
    "any-100": voted(ANY, PAPER),
    "any-distill-100": voted(ANY, DISTILLED),
    "base": whole_base,
    "base-100": whole_base_tuned(PAPER),
}
TAUGHT = ("mvp-distill-100", "any-distill-100")
DELIVERED = ("default", "few-5", "few-20", "few-100")  # earlier records of these had a teacher


def identity(config: dict[str, Any]) -> tuple[object, ...]:
    """Return what a record is about; only where specialists vote does it matter how many there are.

    Records of taught methods that name no teacher were made when the base model alone was one.
    """
    many = config["members"] if config["method"].startswith(NARROW_VOTERS) else None
    return config["task"], config["method"], config["base_sha256"], config["seed"], many, config.get("teacher")


def main() -> None:
    """Run the methods that have no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first task")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--lists", choices=["random", "superclasses"], default="random")
    parser.add_argument("--split", choices=["test", "held-out", "unseen"], default="test")
    parser.add_argument("--similarity", choices=["leep", "wordnet"], default="leep")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = resolve_device(args.device)
    zoo, source = open_zoo(args.zoo), open_source(args.data)
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    question = "targets" if args.lists == "random" else args.lists
    question += "" if args.split == "test" else f"-{args.split}"
    done = {identity(r["config"]) for r in records.read(question)}
    tasks = target_tasks(zoo, source.classes, 5, args.first + args.tasks, args.lists)[args.first :]
    for task in tasks:
        train, test = load(source, task, zoo.base.input_size, args.split)
        setting = Setting(zoo, prunable, task, train, test, device, args.seed, args.similarity)
        for name in args.methods.split(","):
            config = {
                "task": task.id, "classes": task.names, "method": name, "base_sha256": zoo.base.sha256,
                "seed": args.seed, "zoo": zoo.name, "members": len(zoo.ids()),
                **({"teacher": "cascade"} if name in TAUGHT else {"teacher": "none"} if name in DELIVERED else {}),
            }  # fmt: skip
            if identity(config) in done:
                continue
            if not name.startswith(("base", "random", "ifp")):
                _ = setting.ranked  # shared by several methods, so not in their time
            if name in TAUGHT:
                _ = setting.teacher
            if name == "member-200":
                _ = setting.base_teacher
            begin = time.perf_counter()
            model = METHODS[name](setting)
            seconds = time.perf_counter() - begin
            top1 = accuracy(predict(model, test.images, zoo.base, device), test).top1
            macs = count_macs(model.to("cpu"), zoo.base.input_size)
            records.append(
                question, config, {"top1": round(top1, 2), "seconds": round(seconds, 2), "macs": macs}, device
            )
            log.info("%s %s %.1f (%.0f s)", name, ",".join(task.names), top1, seconds)


if __name__ == "__main__":
    main()
