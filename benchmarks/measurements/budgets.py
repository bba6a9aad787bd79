"""Are budgets met, and what do they buy? Requested and achieved figures and accuracy, for several tasks and budgets.

    python -m benchmarks budgets --data DIR [--tasks 3] [--budgets 0.2ms,0.5ms,200KiB] [--iterations 100]

Every run is one record. `achieved` is measured on the exported file, as for a report, and `probe_ms` as the search
does, in fewer calls. `--iterations 0` measures only whether budgets are met. The latency model's probes come from the
user's cache, the final figures never do.
`--method smsp` runs the SMSP-style reading.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.command import Script
from benchmarks.measurements.edge_latency import export
from benchmarks.methods import TOOL, sized, top1, tuned
from benchmarks.setting import Setting
from cli.amounts import family
from mvp_edge.budget.latency import time_call
from mvp_edge.config import Budget, VoteConfig
from mvp_edge.core.device import on_host
from mvp_edge.core.errors import BudgetError
from mvp_edge.models.macs import count_macs, count_params
from mvp_edge.prune.size import RULES
from mvp_edge.timing.latency import time_files
from mvp_edge.voting.meta_vote import assemble, vote
from mvp_edge.voting.neighbours import knowing, select_voters

LATENCIES_MS = np.geomspace(0.19, 5, 14)
SIZES = "100KiB,200KiB,400KiB,1MiB,3MiB,100kparams,300kparams,1Mparams,3MMACs,7MMACs,15MMACs,40MMACs,120MMACs"


def run(s: Setting, config: VoteConfig, budget: Budget, iterations: int) -> dict[str, object]:
    """Size, make, train, export and measure one model."""
    begin = time.perf_counter()
    initial = knowing(s.ranked, s.task) if config.method == "mvp" else []
    try:
        sizing = sized(s, config, budget, s.ranked[: config.neighbours], initial)
    except BudgetError as e:
        return {"status": "out of reach", "reason": str(e)}
    size_s = time.perf_counter() - begin
    near = select_voters(s.ranked, s.prunable, s.task, config, sizing.counts)
    plan, chosen = vote(s.zoo, s.prunable, near, config, sizing.counts, s.seed)
    model = assemble(s.prunable, plan, chosen, s.task, s.train, device=s.device)
    start = top1(s, model)
    model = tuned(s, model, replace(TOOL, iterations=iterations))
    end = top1(s, model)
    model = on_host(model).eval()
    on_host(s.prunable.model)
    base = s.prunable.base
    with TemporaryDirectory() as scratch:
        file = export(base, model, Path(scratch) / "model.onnx")
        latency = time_files([file])[0].latency()
        probe_ms = time_call(file)
        figures = {
            "latency_ms": latency.median_ms,
            "macs": count_macs(model, base.input_size),
            "params": count_params(model),
            "size_kib": file.stat().st_size / 1024,
        }
    return {
        "status": "ok",
        "achieved": {k: round(v, 4) for k, v in figures.items()},
        "clock": latency.clock,
        "probe_ms": round(probe_ms, 4),
        "probe_share": round(probe_ms / budget.latency_ms, 4) if budget.latency_ms else None,
        "share": {k: round(figures[k] / v, 4) for k, v in budget.given.items()},
        "counts": list(plan.counts.values()),
        "requested": list(sizing.requested.values()),
        "voters": [v.info.kind for v in chosen],
        "top1_start": start,
        "top1": end,
        "size_s": round(size_s, 2),
        "seconds": round(time.perf_counter() - begin, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main(argv: Sequence[str]) -> None:
    """Run what has no record yet."""
    script = Script("budgets", __doc__, "data", "zoo", "tasks", "split", "device", "seed")
    script.add("--first", type=int, default=0)
    script.add("--budgets", default=",".join(f"{v:.3g}ms" for v in LATENCIES_MS) + "," + SIZES)
    script.add("--iterations", type=int, default=TOOL.iterations)
    script.add("--channel-multiple", default="8", help="a number or auto")
    script.add("--method", choices=["mvp", "smsp"], default="mvp")
    args = script.parse(argv)
    multiple = "auto" if args.channel_multiple == "auto" else int(args.channel_multiple)
    config = VoteConfig(method=args.method, channel_multiple=multiple)
    done, zoo = script.done(), script.zoo
    for task in script.tasks(first=args.first):
        setting = None
        for budget in family(args.budgets, {}):
            about = {
                "task": task.id, "budget": budget.given, "iterations": args.iterations, "align": multiple,
                "method": args.method, "rule": RULES[args.method], "split": args.split,
                "base_sha256": zoo.base.sha256, "members": len(zoo.ids()), "seed": args.seed,
            }  # fmt: skip
            if about not in done:
                setting = setting or script.setting(task)
                script.record(about, run(setting, config, budget, args.iterations))
