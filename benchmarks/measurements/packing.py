"""What does storing members and the base in eight bits cost, and does it change a vote?

    python -m benchmarks packing --zoo DIR --data DIR [--packed DIR] [--tasks 20]

The zoo is compared with a packed copy of it, or with one that was packed before: member by member on the test images of
its own task, and on target tasks by who votes and what they keep.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.command import Script
from benchmarks.methods import SPECIALISTS
from mvp_edge.core.device import on_device
from mvp_edge.data import DataSource
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.meta_vote import vote
from mvp_edge.voting.neighbours import rank, select_voters
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo

CPU = torch.device("cpu")


def main(argv: Sequence[str]) -> None:
    """Compare and append one record."""
    script = Script("packing", __doc__, "data", "zoo", "tasks")
    script.add("--packed")
    script.add("--before", default="two bytes a weight", help="how the zoo is stored, for the record")
    script.add("--after", default="16 steps to a standard deviation, gzipped", help="likewise the packed one")
    args = script.parse(argv)
    source, zoo, before = script.source, script.zoo, script.prunable
    with tempfile.TemporaryDirectory() as scratch:
        packed = open_zoo(args.packed) if args.packed else packed_copy(zoo, Path(scratch) / zoo.name)
        after = PrunableModel.of(packed.base, packed.load_base())
        result = members(zoo, packed, after, source)
        if zoo.base.sha256 != packed.base.sha256:
            result["base"] = [base_accuracy(t, source) for t in (before, after)]
        same_voters, same_plan = votes(zoo, packed, before, after, source, script.tasks())
        result |= {"tasks": args.tasks, "same_voters": same_voters, "same_plan": same_plan}
        result["bytes"] = [z.summary()["bytes"] for z in (zoo, packed)]
    config = {"zoo": zoo.name, "members": len(zoo.ids()), "before": args.before, "after": args.after}
    script.record(config, result)


def packed_copy(zoo: Zoo, path: Path) -> Zoo:
    """Return a zoo with the same members, packed to int8."""
    packed = create_zoo(path, zoo.base, zoo.load_base(), "int8")
    for info in zoo.infos():
        packed.add(replace(info, base_sha256=packed.base.sha256), zoo.load(info).state)
    return packed


def base_accuracy(prunable: PrunableModel, source: DataSource) -> float:
    """Return the base model's top-1 in percent over all its classes."""
    test = source.load(prunable.base.classes, "test", prunable.base.input_size)
    model = on_device(prunable.model, torch.device("cpu"))
    return round(accuracy(predict(model, test.images, prunable.base, CPU), test).top1, 2)


def members(zoo: Zoo, packed: Zoo, prunable: PrunableModel, source: DataSource) -> dict[str, object]:
    """Compare members on the test images of their own tasks, in points."""
    changes = []
    for info in zoo.infos():
        test = source.load(info.task.names, "test", prunable.base.input_size)
        top1 = [
            accuracy(predict(z.load(z.info(info.id)).network(prunable), test.images, prunable.base, CPU), test).top1
            for z in (zoo, packed)
        ]
        changes.append(top1[1] - top1[0])
    return {"mean_change": round(statistics.mean(changes), 4), "worst_change": round(min(changes), 2)}


def votes(
    zoo: Zoo, packed: Zoo, before: PrunableModel, after: PrunableModel, source: DataSource, tasks: Sequence[Task]
) -> tuple[int, int]:
    """Return for how many target tasks the voters, and what they keep, stay the same."""
    config = SPECIALISTS
    counts = target_counts(before.table, config.keep, config.channel_multiple)
    same_voters = same_plan = 0
    for task in tasks:
        train = source.load(task.names, "train", before.base.input_size)
        chosen, plans = [], []
        for z, prunable in ((zoo, before), (packed, after)):
            near = select_voters(rank(z, prunable, task, train, config, device=CPU, seed=0), prunable, task, config)
            chosen.append({n.info.id for n in near})
            plans.append(vote(z, prunable, near, config, counts, seed=0)[0])
        same_voters += chosen[0] == chosen[1]
        same_plan += plans[0] == plans[1]
    return same_voters, same_plan
