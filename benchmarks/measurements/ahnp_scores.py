"""Which L1 weight and threshold for AHNP's scores? The paper gives neither.

    python -m benchmarks ahnp-scores --data DIR --base FILE [--tasks 4] [--sparsity 1e-4,1e-3] [--threshold 0.2,0.5]

Members of random tasks are made on four fifths of the training images and scored on the fifth that is left; no test
image is seen. Beside the settings stand IFP by activation and by Taylor importance, and random pruning, all with the
same training. A member's record also tells when the target was reached, how much of the cut was left to the end of the
allotted iterations, and the training's multiply-adds in dense iterations. A run goes on where it was stopped.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from benchmarks.command import Script
from mvp_edge.build.members import sample_tasks
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import FitConfig, FitOverrides, PruneSchedule, ScoreSchedule
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import load_base
from mvp_edge.models.heads import random_head, shared_rows
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.pruners import automatic_prune, iterative_prune, target_counts
from mvp_edge.training.loop import BatchSource, accuracy, predict
from mvp_edge.training.optimizers import resolve_fit

QUESTION = "ahnp-scores-held-out"
TASK_SEED = 1500  # neither of a zoo nor of the target tasks
HELD_OUT = 5


@dataclass
class Widths(SilentProgress):
    """Remembers how many weights a model has at each step."""

    model: nn.Module
    seen: list[int] = field(default_factory=list)

    def advance(self, n: int = 1) -> None:
        """Note the weights of the step that is over."""
        self.seen.append(sum(p.numel() for p in self.model.parameters() if p.ndim > 1))


def choices(
    sparsities: list[float], thresholds: list[float], fit: FitConfig
) -> Iterator[tuple[str, ScoreSchedule | PruneSchedule]]:
    """Return what is compared, by name."""
    for sparsity, threshold in itertools.product(sparsities, thresholds):
        yield f"ahnp {sparsity:g} {threshold:g}", ScoreSchedule(sparsity=sparsity, threshold=threshold)
    for importance in ("activation", "taylor", "random"):
        yield f"ifp {importance}", PruneSchedule(importance=importance, every=max(1, fit.iterations // 200))


def measure(
    prunable: PrunableModel, train: ImageSet, held_out: ImageSet, keep: float, how: ScoreSchedule | PruneSchedule,
    fit: FitConfig, device: torch.device, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Make one member and return what its record says."""
    model = copy.deepcopy(prunable.model)
    outer = head_of(model)
    rows = shared_rows(train.classes, prunable.base.classes, outer) if fit.distill > 0 else None
    set_head(model, rows or random_head(outer.in_features, len(train.classes), torch_rng(seed, "head")))
    model = model.to(device)
    teacher = Teacher(prunable, device).logits(train) if fit.distill > 0 else None
    source, widths = BatchSource(train, prunable.base, fit, device, seed, teacher), Widths(model)
    whole = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    begin = time.perf_counter()
    if isinstance(how, ScoreSchedule):
        counts = target_counts(prunable.table, keep, 8)
        plan = automatic_prune(model, prunable.table, source, counts, how, fit, stage=widths)
        allotted = math.ceil(how.share * fit.iterations)
    else:
        schedule = replace(how, keep=keep, channel_multiple=8)
        plan = iterative_prune(model, prunable.table, source, schedule, fit, rng=rng(seed, "prune"), stage=widths)
        allotted = fit.iterations
    final = widths.seen[-1]
    last = widths.seen[min(allotted, len(widths.seen)) - 1]
    return {
        "top1": round(accuracy(predict(model, held_out.images, prunable.base, device), held_out).top1, 2),
        "seconds": round(time.perf_counter() - begin, 1),
        "reached": next(i for i, n in enumerate(widths.seen) if n == final),
        "forced": round((last - final) / (whole - final), 3),
        "dense_iterations": round(sum(widths.seen) / whole, 1),
        "achieved_keep": round(plan.achieved, 4),
    }


def main(argv: Sequence[str]) -> None:
    """Make the members that have no record yet, task by task."""
    script = Script(QUESTION, __doc__, "data", "device", "seed", command="ahnp-scores")
    script.add("--base", required=True, help="a registered name, or a file of `mvp-edge pretrain`")
    script.add("--tasks", type=int, default=4)
    script.add("--keep", type=float, default=0.1)
    script.add("--iterations", type=int, default=200)
    script.add("--batch-size", type=int, default=64)
    script.add("--lr", type=float, help="of the weights; default: the recipe's")
    script.add("--distill", type=float, default=0.0)
    script.add("--sparsity", default="1e-4,1e-3,1e-2")
    script.add("--threshold", default="0.2,0.5,0.8")
    args = script.parse(argv)
    wish = FitOverrides(iterations=args.iterations, batch_size=args.batch_size, lr=args.lr, distill=args.distill)
    prunable = PrunableModel.of(*load_base(args.base))
    fit = resolve_fit(wish, "specialist", prunable.model)
    sparsities, thresholds = ([float(v) for v in each.split(",")] for each in (args.sparsity, args.threshold))
    done = script.done()
    for task in sample_tasks(prunable.base.classes, 5, args.tasks, TASK_SEED):
        images = script.source.load(task.names, "train", prunable.base.input_size)
        order = rng(0, "held-out").permutation(len(images))
        cut = len(images) // HELD_OUT
        for name, how in choices(sparsities, thresholds, fit):
            config = {
                "task": task.id, "classes": list(task.names), "method": name, "schedule": asdict(how),
                "keep": args.keep, "fit": asdict(fit), "base_sha256": prunable.base.sha256, "seed": args.seed,
            }  # fmt: skip
            if config not in done:
                train, held_out = images.subset(order[cut:]), images.subset(order[:cut])
                result = measure(prunable, train, held_out, args.keep, how, fit, script.device, args.seed)
                script.record(config, result)
