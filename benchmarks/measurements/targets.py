"""How good is a model for a new task? MVP, its baselines and its variants on the same target tasks, test split.

    python -m benchmarks targets --data DIR [--zoo DIR] [--tasks 20] [--methods mvp-100,ifp-1000] [--lists superclasses]

Every finished (task, method) is one record; a run goes on where it was stopped. Choices were made with
`--split held-out`, which trains on 80 % of the training images and scores on the rest; the test split only reports.
Members have seen the training images. `--split unseen` takes a fifth of the test images to train on and scores on the
others: what few images are worth that are as new to the members as a user's own.

Records of `default`, `few-N`, `mvp-distill-100`, `any-distill-100` and `taught-by-...` were made when the tool learned
from a teacher (`teacher`: the base model where a smaller one is unsure; without that field the base model alone).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.command import Script
from benchmarks.methods import (
    ANY,
    DISTILLED,
    GENERALIST,
    NONE,
    PAPER,
    SPECIALISTS,
    TOOL,
    Method,
    at_random,
    delivered,
    few,
    from_parent,
    iterative,
    top1,
    voted,
    whole_base,
)  # fmt: skip
from mvp_edge.config import FitConfig
from mvp_edge.models.macs import count_macs

BY_SPECIALISTS = ("mvp", "one-neighbour", "any")
METHODS: dict[str, Method] = {
    "prune": delivered(TOOL),
    "prune-5": few(5, delivered(TOOL)),
    "prune-20": few(20, delivered(TOOL)),
    "prune-100": few(100, delivered(TOOL)),
    "mvp-100": voted(SPECIALISTS, PAPER),
    "mvp-rate-100": voted(SPECIALISTS, replace(PAPER, lr=0.1)),  # as `rates` has chosen on held-out images
    "mvp-sample-100": voted(replace(SPECIALISTS, vote="sample"), PAPER),
    "mvp-0": voted(SPECIALISTS, NONE),
    "one-neighbour-100": voted(replace(SPECIALISTS, neighbours=1), PAPER),
    "random-100": at_random(PAPER),
    "ifp-100": iterative(100),
    "ifp-300": iterative(300, 0.02),
    "ifp-1000": iterative(1000),
    "member-200": from_parent(FitConfig(iterations=200, batch_size=64, lr=0.03, distill=0.9), every=5),
    "generalist-0": voted(GENERALIST, NONE),
    "generalist-100": voted(GENERALIST, PAPER),
    "untaught": voted(GENERALIST, TOOL),
    "taught-by-base": voted(GENERALIST, DISTILLED),
    "any-100": voted(ANY, PAPER),
    "base": whole_base(),
    "base-100": whole_base(PAPER),
}


def identity(config: dict[str, Any]) -> tuple[object, ...]:
    """Return what a record is about; only where specialists vote does it matter how many there are."""
    many = config["members"] if config["method"].startswith(BY_SPECIALISTS) else None
    return config["task"], config["method"], config["base_sha256"], config["seed"], many


def main(argv: Sequence[str]) -> None:
    """Run the methods that have no record yet."""
    script = Script("targets", __doc__, "data", "zoo", "tasks", "device", "seed")
    script.add("--first", type=int, default=0, help="number of the first task")
    script.add("--methods", default=",".join(METHODS))
    script.add("--lists", choices=["random", "superclasses"], default="random")
    script.add("--split", choices=["test", "held-out", "unseen"], default="test")
    args = script.parse(argv)
    script.question = ("targets" if args.lists == "random" else args.lists) + (
        "" if args.split == "test" else f"-{args.split}"
    )
    zoo, done = script.zoo, {identity(c) for c in script.done()}
    for task in script.tasks(args.lists, args.first):
        s = script.setting(task)
        for name in args.methods.split(","):
            config = {
                "task": task.id, "classes": task.names, "method": name, "base_sha256": zoo.base.sha256,
                "seed": args.seed, "zoo": zoo.name, "members": len(zoo.ids()),
            }  # fmt: skip
            if identity(config) in done:
                continue
            if not name.startswith(("base", "random", "ifp")):
                _ = s.ranked  # shared by several methods, so not in their time
            if name == "member-200":
                _ = s.teacher
            begin = time.perf_counter()
            model = METHODS[name](s)
            seconds = round(time.perf_counter() - begin, 2)
            found = top1(s, model)
            macs = count_macs(model.to("cpu"), zoo.base.input_size)
            script.record(config, {"top1": found, "seconds": seconds, "macs": macs})
