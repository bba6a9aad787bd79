"""What do aligned channel counts gain? Time and accuracy for several lanes, against counts as the ratio falls.

    python -m benchmarks alignment --data DIR [--keeps 0.05,0.1,0.2] [--tasks 3]

Times of one keep are taken in turns in one process; accuracy is that of specialists' votes after 100 iterations (the
bundled members are aligned to 8 themselves). Both go to `results/measurements/alignment.jsonl`, one record for a keep's
times and one for each task, keep and lane.
"""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks import records
from benchmarks.methods import PAPER, tuned
from benchmarks.setting import Setting, load, target_tasks
from mvp_edge.config import ChannelMultiple, PruneConfig, VoteConfig
from mvp_edge.core.device import resolve_device
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.export import export_onnx
from mvp_edge.models.macs import count_macs
from mvp_edge.models.plan import make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.prune.size import Votes, choose_counts
from mvp_edge.timing.latency import Contender, time_in_turns
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.meta_vote import assemble, vote
from mvp_edge.zoo.store import open_zoo

log = logging.getLogger("benchmarks.measurements.alignment")
LANES: tuple[ChannelMultiple, ...] = (1, 4, 8, 16, "auto")
BLOCKS, RUNS = 30, 8


def counts_of(prunable: PrunableModel, keep: float, channel_multiple: ChannelMultiple) -> dict[str, int]:
    """Return the counts of one setting."""
    plans = Votes([], [])
    config = PruneConfig(Path("classes.txt"), None, vote=VoteConfig(keep=keep, channel_multiple=channel_multiple))
    return dict(choose_counts(prunable, config, plans, list("abcde"), SilentProgress()).counts)


def time_lanes(prunable: PrunableModel, keep: float) -> dict[str, object]:
    """Time all lanes at one keep."""
    base, rows, files = prunable.base, [], []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        for lane in LANES:
            counts = counts_of(prunable, keep, lane)
            plan = make_plan(prunable.table.widths, {n: range(c) for n, c in counts.items()})
            model = sliced_copy(prunable.model, prunable.table, plan).eval()
            file = scratch / f"{lane}.onnx"
            export_onnx(
                model, file, input_size=base.input_size, mean=base.mean, std=base.std, labels=base.classes, metadata={}
            )  # fmt: skip
            macs = count_macs(model, base.input_size)
            rows.append({"align": lane, "counts": list(counts.values()), "macs": macs, "units": sum(counts.values())})
            files.append(Contender(file))
        times = [t.latency().median_ms for t in time_in_turns(files, BLOCKS, RUNS, budget_s=30)]
    return {"lanes": [{**row, "processor_ms": round(ms, 4)} for row, ms in zip(rows, times, strict=True)]}


def main() -> None:
    """Run what has no record yet; times are taken anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--keeps", default="0.05,0.1,0.2")
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--split", choices=["test", "held-out"], default="held-out")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = resolve_device(args.device)
    zoo, source = open_zoo(args.zoo), open_source(args.data)
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    keeps = [float(k) for k in args.keeps.split(",")]
    for keep in keeps:
        result = time_lanes(prunable, keep)
        records.append("alignment", {"kind": "time", "keep": keep, "base": zoo.base.name}, result, torch.device("cpu"))
        log.info("keep %s: %s", keep, result)
    done = [r["config"] for r in records.read("alignment")]
    keep, fitting = 0.1, replace(PAPER, lr=0.03)
    for task in target_tasks(zoo, source.classes, 5, args.tasks):
        train, test = load(source, task, zoo.base.input_size, args.split)
        setting = Setting(zoo, prunable, task, train, test, device, args.seed)
        for lane in LANES:
            about = {
                "kind": "accuracy", "task": task.id, "keep": keep, "align": lane, "split": args.split,
                "base_sha256": zoo.base.sha256, "seed": args.seed,
            }  # fmt: skip
            if about in done:
                continue
            config = VoteConfig(voters="specialist", keep=keep, channel_multiple=lane)
            counts = counts_of(prunable, keep, lane)
            near = [n for n in setting.ranked if n.info.kind == "specialist"][: config.neighbours]
            plan, voters = vote(zoo, prunable, near, config, counts, args.seed)
            model = tuned(setting, assemble(prunable, plan, voters, task, train, device=device), fitting)
            top1 = accuracy(predict(model, test.images, zoo.base, device), test).top1
            records.append("alignment", about, {"top1": round(top1, 2), "counts": list(counts.values())}, device)
            log.info("%s multiples of %s: %.1f", ",".join(task.names), lane, top1)


if __name__ == "__main__":
    main()
