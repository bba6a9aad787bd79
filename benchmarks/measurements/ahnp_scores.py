"""Which L1 weight and threshold for AHNP's scores? The paper gives neither.

    python -m benchmarks ahnp-scores --data DIR --base FILE [--tasks 4] [--sparsity 1e-4,1e-3] [--threshold 0.2,0.5]

Members of random tasks are made on four fifths of the training images and scored on the fifth that is left; no test
image is seen. Beside the settings stand IFP by activation and by Taylor importance, and random pruning, all with the
same training. A member's record also tells when the target was reached, how much of the cut was left to the end of the
allotted iterations, and the training's multiply-adds in dense iterations. A run goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from benchmarks import records
from mvp_edge.build.sampling import sample_tasks
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import FitConfig, FitOverrides, PruneSchedule, ScoreSchedule
from mvp_edge.core.device import resolve_device
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import DataSource, ImageSet, open_source
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.bases import load_base
from mvp_edge.models.heads import random_head, shared_rows
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task
from mvp_edge.pruners import automatic_prune, iterative_prune, target_counts
from mvp_edge.training.loop import BatchSource, accuracy, predict
from mvp_edge.training.optimizers import resolve_fit

log = logging.getLogger("benchmarks.measurements.ahnp_scores")
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


def halves(source: DataSource, task: Task, size: tuple[int, int]) -> tuple[ImageSet, ImageSet]:
    """Return training images and held-out ones of a task, both from the training split."""
    images = source.load(task.names, "train", size)
    order = rng(0, "held-out").permutation(len(images))
    cut = len(images) // HELD_OUT
    return images.subset(order[cut:]), images.subset(order[:cut])


def choices(
    sparsities: list[float], thresholds: list[float], fit: FitConfig
) -> Iterator[tuple[str, ScoreSchedule | PruneSchedule]]:
    """Return what is compared, by name."""
    for sparsity, threshold in itertools.product(sparsities, thresholds):
        yield f"ahnp {sparsity:g} {threshold:g}", ScoreSchedule(sparsity=sparsity, threshold=threshold)
    for importance in ("activation", "taylor", "random"):
        yield f"ifp {importance}", PruneSchedule(importance=importance, every=max(1, fit.iterations // 200))


def measure(
    prunable: PrunableModel,
    train: ImageSet,
    held_out: ImageSet,
    keep: float,
    how: ScoreSchedule | PruneSchedule,
    fit: FitConfig,
    device: torch.device,
    seed: int,
) -> dict[str, object]:
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


def table() -> str:
    """Return the page's table: all settings on the tasks on which every one of them was run."""
    rows = records.read(QUESTION)
    rows = [r for r in rows if r["config"]["base_sha256"] == rows[-1]["config"]["base_sha256"]]
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for r in rows:
        found.setdefault(r["config"]["method"], {})[r["config"]["task"]] = r["result"]
    tasks = set.intersection(*(set(results) for results in found.values()))
    fit = rows[-1]["config"]["fit"]
    lines = [
        f"| {fit['iterations']} steps of {fit['batch_size']} images, {len(tasks)} tasks | held-out top-1 "
        "| left to the end of the allotted steps |",
        "|---|---|---|",
    ]
    for name, results in found.items():
        mine = [results[t] for t in sorted(tasks)]
        kind, *values = name.split()
        title = f"AHNP, weight {values[0]}, threshold {values[1]}" if kind == "ahnp" else f"IFP, {values[0]}"
        forced = f"{100 * statistics.mean(v['forced'] for v in mine):.0f} %" if kind == "ahnp" else ""
        lines.append(f"| {title} | {statistics.mean(v['top1'] for v in mine):.2f} | {forced} |")
    return "\n".join(lines)


def main() -> None:
    """Make the members that have no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--base", required=True, help="a registered name, or a file of `mvp-edge pretrain`")
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--keep", type=float, default=0.1)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, help="of the weights; default: the recipe's")
    parser.add_argument("--distill", type=float, default=0.0)
    parser.add_argument("--sparsity", default="1e-4,1e-3,1e-2")
    parser.add_argument("--threshold", default="0.2,0.5,0.8")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    wish = FitOverrides(iterations=args.iterations, batch_size=args.batch_size, lr=args.lr, distill=args.distill)
    base, model = load_base(args.base)
    prunable, device = PrunableModel.of(base, model), resolve_device(args.device)
    sparsities, thresholds = ([float(v) for v in each.split(",")] for each in (args.sparsity, args.threshold))
    sweep(
        prunable,
        open_source(args.data),
        resolve_fit(wish, "specialist", model),
        sparsities,
        thresholds,
        keep=args.keep,
        tasks=args.tasks,
        device=device,
        seed=args.seed,
    )


def sweep(
    prunable: PrunableModel,
    source: DataSource,
    fit: FitConfig,
    sparsities: list[float],
    thresholds: list[float],
    *,
    keep: float,
    tasks: int,
    device: torch.device,
    seed: int,
) -> None:
    """Make the members that have no record yet, task by task."""
    done = [r["config"] for r in records.read(QUESTION)]
    for task in sample_tasks(prunable.base.classes, 5, tasks, TASK_SEED):
        train, held_out = halves(source, task, prunable.base.input_size)
        for name, how in choices(sparsities, thresholds, fit):
            config = {
                "task": task.id, "classes": list(task.names), "method": name, "schedule": asdict(how), "keep": keep,
                "fit": asdict(fit), "base_sha256": prunable.base.sha256, "seed": seed,
            }  # fmt: skip
            if config in done:
                continue
            result = measure(prunable, train, held_out, keep, how, fit, device, seed)
            records.append(QUESTION, config, result, device)
            log.info("%s  %s  %s", "/".join(task.names), name, result)


if __name__ == "__main__":
    main()
