"""How fast are zoo members made, and what does slicing save against masks?

    python -m benchmarks zoo-speed --data DIR --iterations 300

The masked run is the same IFP with the dropped units zeroed instead of cut, so that every step costs what the dense
network costs. That cost does not change over the run; it is timed over a few steps and multiplied.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from torch import nn

from benchmarks.command import Script
from mvp_edge.build.members import make_member, sample_tasks
from mvp_edge.config import PruneSchedule
from mvp_edge.core.device import on_device
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.slicing import masked
from mvp_edge.pruners import base_importance, target_counts, top_plan
from mvp_edge.training.loop import BatchSource, fit, make_optimizer
from mvp_edge.training.recipes import recipe


def main(argv: Sequence[str]) -> None:
    """Time both and append a record."""
    script = Script("zoo-speed", __doc__, "data", "zoo", "device")
    script.add("--iterations", type=int, default=recipe("specialist", "sgd").iterations)
    script.add("--members", type=int, default=3)
    script.add("--masked-steps", type=int, default=12)
    args = script.parse(argv)
    device, prunable = script.device, script.prunable
    config = replace(recipe("specialist", "sgd"), iterations=args.iterations)
    sliced_s, masked_s = [], []
    for task in sample_tasks(script.source.classes, 5, args.members, seed=2000):
        train = script.source.load(task.names, "train", prunable.base.input_size)
        begin = time.perf_counter()
        make_member(prunable, train, PruneSchedule(), config, device=device, seed=0)
        sliced_s.append(time.perf_counter() - begin)

        model = copy.deepcopy(prunable.model)
        set_head(model, nn.Linear(head_of(model).in_features, len(task.classes)))
        model = on_device(model, device)
        plan = top_plan(
            prunable.table, base_importance(prunable.model, prunable.table), target_counts(prunable.table, 0.1, 8)
        )
        short = replace(config, iterations=args.masked_steps)
        with masked(model, prunable.table, plan):
            batches = BatchSource(train, prunable.base, short, device, 0)
            begin = time.perf_counter()
            fit(model, batches, short, optimizer=make_optimizer(model, short), bf16=True)
        masked_s.append((time.perf_counter() - begin) / args.masked_steps * args.iterations)
    result = {
        "sliced_s": [round(s, 1) for s in sliced_s],
        "masked_s_extrapolated": [round(s, 1) for s in masked_s],
        "members_per_hour": round(3600 / statistics.median(sliced_s), 1),
        "ratio": round(statistics.median(m / s for m, s in zip(masked_s, sliced_s, strict=True)), 2),
    }
    script.record({"fit": asdict(config), "schedule": asdict(PruneSchedule())}, result)
