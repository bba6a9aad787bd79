"""How fast are zoo members made, and what does slicing save against masks?

    python -m benchmarks zoo-speed --data DIR --iterations 300

The masked run is the same IFP with the dropped units zeroed instead of cut, so that every step costs what the dense
network costs. That cost does not change over the run; it is timed over a few steps and multiplied.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from dataclasses import asdict, replace

from torch import nn

from benchmarks import records
from mvp_edge.build.member import make_member
from mvp_edge.build.sampling import sample_tasks
from mvp_edge.config import PruneSchedule
from mvp_edge.core.device import on_device, resolve_device
from mvp_edge.data import open_source
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import masked
from mvp_edge.pruners import base_importance, target_counts, top_plan
from mvp_edge.training.loop import BatchSource, fit, make_optimizer
from mvp_edge.training.recipes import recipe
from mvp_edge.zoo.store import open_zoo


def main() -> None:
    """Time both and append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--iterations", type=int, default=recipe("specialist", "sgd").iterations)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--masked-steps", type=int, default=12)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = resolve_device(args.device)
    zoo, source = open_zoo(args.zoo), open_source(args.data)
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    config = replace(recipe("specialist", "sgd"), iterations=args.iterations)
    sliced_s, masked_s = [], []
    for task in sample_tasks(source.classes, 5, args.members, seed=2000):
        train = source.load(task.names, "train", zoo.base.input_size)
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
    records.append("zoo-speed", {"fit": asdict(config), "schedule": asdict(PruneSchedule())}, result, device)


if __name__ == "__main__":
    main()
