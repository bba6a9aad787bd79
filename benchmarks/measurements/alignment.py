"""What do channel multiples gain? Time and accuracy for several of them, against counts as the ratio falls.

    python -m benchmarks alignment --data DIR [--keeps 0.05,0.1,0.2] [--tasks 3]

Times of one keep are taken in turns in one process; accuracy is that of specialists' votes after 100 iterations (the
bundled members have multiples of 8 themselves). One record for a keep's times and one for each task and multiple.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.command import Script
from benchmarks.measurements.edge_latency import export
from benchmarks.methods import PAPER, SPECIALISTS, specialists, top1, tuned
from mvp_edge.config import ChannelMultiple, PruneConfig, VoteConfig
from mvp_edge.core.progress import SilentProgress
from mvp_edge.models.macs import count_macs
from mvp_edge.models.plan import make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.prune.size import Votes, choose_counts
from mvp_edge.timing.latency import Contender, time_in_turns
from mvp_edge.voting.meta_vote import assemble, vote

KEEP = 0.1  # at which accuracy is measured
MULTIPLES: tuple[ChannelMultiple, ...] = (1, 4, 8, 16, "auto")
BLOCKS, RUNS = 30, 8


def counts_of(prunable: PrunableModel, keep: float, multiple: ChannelMultiple) -> dict[str, int]:
    """Return the counts of one setting."""
    plans = Votes([], [])
    config = PruneConfig(Path("classes.txt"), None, vote=VoteConfig(keep=keep, channel_multiple=multiple))
    return dict(choose_counts(prunable, config, plans, list("abcde"), SilentProgress()).counts)


def time_multiples(prunable: PrunableModel, keep: float) -> dict[str, object]:
    """Time all multiples at one keep."""
    base, rows, files = prunable.base, [], []
    with TemporaryDirectory() as directory:
        scratch = Path(directory)
        for multiple in MULTIPLES:
            counts = counts_of(prunable, keep, multiple)
            plan = make_plan(prunable.table.widths, {n: range(c) for n, c in counts.items()})
            model = sliced_copy(prunable.model, prunable.table, plan).eval()
            file = export(base, model, scratch / f"{multiple}.onnx")
            macs = count_macs(model, base.input_size)
            rows.append(
                {"align": multiple, "counts": list(counts.values()), "macs": macs, "units": sum(counts.values())}
            )
            files.append(Contender(file))
        times = [t.latency().median_ms for t in time_in_turns(files, BLOCKS, RUNS, budget_s=30)]
    return {"lanes": [{**row, "processor_ms": round(ms, 4)} for row, ms in zip(rows, times, strict=True)]}


def main(argv: Sequence[str]) -> None:
    """Run what has no record yet; times are taken anew."""
    script = Script("alignment", __doc__, "data", "zoo", "tasks", "split", "device", "seed")
    script.add("--keeps", default="0.05,0.1,0.2")
    args = script.parse(argv)
    zoo, prunable, done = script.zoo, script.prunable, script.done()
    for keep in map(float, args.keeps.split(",")):
        script.record({"kind": "time", "keep": keep, "base": zoo.base.name}, time_multiples(prunable, keep))
    for task in script.tasks():
        s = script.setting(task)
        for multiple in MULTIPLES:
            about = {
                "kind": "accuracy", "task": task.id, "keep": KEEP, "align": multiple, "split": args.split,
                "base_sha256": zoo.base.sha256, "seed": args.seed,
            }  # fmt: skip
            if about in done:
                continue
            counts = counts_of(prunable, KEEP, multiple)
            near = specialists(s)[: SPECIALISTS.neighbours]
            plan, voters = vote(zoo, prunable, near, replace(SPECIALISTS, channel_multiple=multiple), counts, args.seed)
            model = tuned(s, assemble(prunable, plan, voters, task, s.train, device=s.device), replace(PAPER, lr=0.03))
            script.record(about, {"top1": top1(s, model), "counts": list(counts.values())})
