"""Write the README's result tables from the records, or check that they agree.

python -m benchmarks.render [--check]
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import records

README = Path(__file__).parents[1] / "README.md"

ROWS = {
    "default": "**`mvp-edge prune`, the default**: broad member, 100 iterations, distillation",
    "broad-0": "broad member, as it is",
    "broad-100": "broad member, 100 iterations",
    "mvp-100": "MVP: 5 narrow neighbours, LEEP, top votes, 100 iterations",
    "mvp-fast-100": "MVP at three times the rate, 0.03",
    "mvp-sample-100": "MVP with votes sampled as in Eq. 1",
    "mvp-distill-100": "MVP with distillation",
    "mvp-0": "MVP before fine-tuning",
    "one-neighbour-100": "one narrow neighbour, 100 iterations",
    "any-100": "narrow and broad neighbours vote, 100 iterations",
    "any-distill-100": "narrow and broad neighbours vote, distillation",
    "random-100": "random units, 100 iterations",
    "ifp-100": "IFP, 100 iterations",
    "ifp-300": "IFP, 300 iterations at four times the rate (how members are made)",
    "ifp-1000": "IFP, 1000 iterations",
    "base": "ceiling: the whole base model, restricted to the classes",
}
PAPER = {"mvp-sample-100": "88.98", "random-100": "33.12", "ifp-1000": "87.99"}


def targets() -> str:
    """Accuracy by method, mean and standard deviation over the target tasks."""
    rows = records.read("targets")
    base = rows[-1]["config"]["base_sha256"]
    lines = ["| method | tasks | top-1 mean | sd | paper | MMACs | seconds |", "|---|---|---|---|---|---|---|"]
    for method, title in ROWS.items():
        mine = [r for r in rows if r["config"]["method"] == method and r["config"]["base_sha256"] == base]
        if not mine:
            continue
        top1 = [r["result"]["top1"] for r in mine]
        sd = statistics.stdev(top1) if len(top1) > 1 else 0.0
        lines.append(
            f"| {title} | {len(top1)} | {statistics.mean(top1):.2f} | {sd:.2f} "
            f"| {PAPER.get(method, '')} | {mine[-1]['result']['macs'] / 1e6:.1f} "
            f"| {statistics.median(r['result']['seconds'] for r in mine):.0f} |"
        )
    return "\n".join([*lines, "", _paired(rows, base)])


def _paired(rows: list[dict[str, Any]], base: str) -> str:
    """Compare on the tasks for which IFP(1000), the dearest method, has been run."""
    top1: dict[str, dict[str, float]] = {}
    for r in rows:
        if r["config"]["base_sha256"] == base:
            top1.setdefault(r["config"]["method"], {})[r["config"]["task"]] = r["result"]["top1"]
    tasks = top1["ifp-1000"].keys()
    means = {m: statistics.mean(v[t] for t in tasks) for m, v in top1.items() if tasks <= v.keys()}
    listed = ", ".join(f"{m} {means[m]:.2f}" for m in ROWS if m in means)
    return f"On the {len(tasks)} tasks on which all of these were run: {listed}."


def prune_time() -> str:
    """The main job's wall time and what it delivers."""
    r = records.read("prune-time")[-1]
    v, env = r["result"], r["environment"]
    slow, fast = (v["latency_ms"][k]["median"] for k in ("dense", "pruned"))
    stages = ", ".join(f"{k.replace('_', ' ')} {s:.1f}" for k, s in v["stages_median_s"].items() if k != "total")
    return "\n".join(
        [
            f"| on {env['cores']} cores of {env['processor']} | |",
            "|---|---|",
            f"| typed command to report, median of {len(v['wall_s'])} | {v['median_s']:.1f} s |",
            f"| of which (s) | {stages} |",
            f"| `mvp-edge --help` | {v['help_s']:.2f} s |",
            f"| model file | {v['bytes']['onnx'] / 1024:.0f} KiB (dense {v['bytes']['dense_onnx'] / 2**20:.1f} MiB) |",
            f"| MACs | {v['macs'] / 1e6:.2f} M (dense {v['base_macs'] / 1e6:.0f} M) |",
            f"| latency, {v['latency_ms']['threads']} thread, batch 1 "
            f"| {fast:.3f} ms (dense {slow:.2f} ms, {slow / fast:.0f}x) |",
        ]
    )


def zoo_speed() -> str:
    """Members per hour, sliced against masked."""
    r = records.read("zoo-speed")[-1]
    v: dict[str, Any] = r["result"]
    return "\n".join(
        [
            f"| IFP, {r['config']['fit']['iterations']} iterations, 2 cores | seconds a member | members an hour |",
            "|---|---|---|",
            f"| sliced at each pruning event | {statistics.median(v['sliced_s']):.0f} | {v['members_per_hour']:.0f} |",
            f"| masked (extrapolated from timed steps) | {statistics.median(v['masked_s_extrapolated']):.0f} "
            f"| {3600 / statistics.median(v['masked_s_extrapolated']):.1f} |",
            f"| ratio | {v['ratio']:.1f}x | |",
        ]
    )


def budgets() -> str:
    """How many budgets were met, by what they limit, and how near to the limit."""
    rows = [r for r in records.read("budgets") if r["config"]["method"] == "mvp" and r["config"]["rule"] == "uniform"]
    lines = [
        "| limit | budgets | out of reach | within 10 % | most over | share used, median (least, most) |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in (("latency_ms", "latency"), ("macs", "MACs"), ("params", "parameters"), ("size_kib", "file")):
        mine = [r for r in rows if set(r["config"]["budget"]) == {name}]
        shares = [r["result"]["share"][name] for r in mine if r["result"]["status"] == "ok"]
        if shares:
            lines.append(
                f"| {title} | {len(mine)} | {len(mine) - len(shares)} "
                f"| {sum(s >= 0.9 for s in shares)} of {len(shares)} "
                f"| {100 * max(0.0, max(shares) - 1):.1f} % "
                f"| {statistics.median(shares):.3f} ({min(shares):.3f}, {max(shares):.3f}) |"
            )
    return "\n".join(lines)


def alignment() -> str:
    """Time and accuracy of lanes at equal keep."""
    rows = records.read("alignment")
    last = {r["config"]["keep"]: r for r in rows if r["config"]["kind"] == "time"}
    scores: dict[str, list[float]] = {}
    for r in rows:
        if r["config"]["kind"] == "accuracy":
            scores.setdefault(str(r["config"]["align"]), []).append(r["result"]["top1"])
    lines = ["| keep | `--align` | units | MMACs | ms | against 1 | top-1 (tasks) |", "|---|---|---|---|---|---|---|"]
    for keep, r in sorted(last.items()):
        first = r["result"]["lanes"][0]["processor_ms"]
        for lane in r["result"]["lanes"]:
            top1 = scores.get(str(lane["align"]), []) if keep == ALIGNMENT_KEEP else []
            shown = f"{statistics.mean(top1):.1f} ({len(top1)})" if top1 else ""
            lines.append(
                f"| {keep:g} | {lane['align']} | {lane['units']} | {lane['macs'] / 1e6:.1f} "
                f"| {lane['processor_ms']:.3f} "
                f"| {lane['processor_ms'] / first:.2f} | {shown} |"
            )
    return "\n".join(lines)


ALIGNMENT_KEEP = 0.1  # at which accuracy was measured
TABLES: dict[str, Callable[[], str]] = {
    "targets": targets,
    "prune-time": prune_time,
    "zoo-speed": zoo_speed,
    "budgets": budgets,
    "alignment": alignment,
}


def rendered(text: str) -> str:
    """Return the README with every `<!-- table NAME -->` block filled in anew."""
    for name, table in TABLES.items():
        block = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = block.sub(lambda m, table=table: f"{m[1]}{table()}\n{m[2]}", text)
    return text


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    new = rendered(text)
    if args.check and new != text:
        sys.exit("README.md does not agree with the records; run: python -m benchmarks.render")
    if not args.check:
        README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
