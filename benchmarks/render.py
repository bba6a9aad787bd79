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


def edge_latency() -> str:
    """Paired latency of the dense base and of what is cut from it."""
    r = records.read("edge-latency")[-1]
    models, ratios, widths = r["result"]["models"], r["result"]["ratios"], r["config"]["widths"]
    titles = {
        "dense": "the whole base",
        "unaligned": f"keep {r['config']['keep']} as the ratio falls: {_numbers(widths['unaligned'])} channels",
        "aligned": f"keep {r['config']['keep']} in lanes of 8: {_numbers(widths['aligned'])} channels",
        "bytes_in": "the same, fed with uint8 images",
        "int8": "the same in INT8",
        "floor": "one channel everywhere: the runtime's floor",
    }
    machine = f"{r['environment']['processor']}, 1 thread, batch 1"
    lines = [f"| {machine} | ms | against dense (quartiles) | file / weights bytes |", "|---|---|---|---|"]
    for name, title in titles.items():
        m, paired = models[name], ratios.get(f"dense/{name}")
        against = f"{paired['median']:.1f}x ({paired['low']:.1f} to {paired['high']:.1f})" if paired else ""
        share = m["file_bytes"] / m["parameter_bytes"]
        lines.append(f"| {title} | {m['latency_ms']['median']:.3f} | {against} | {share:.3f} |")
    lanes, eight = ratios["unaligned/aligned"], ratios["aligned/int8"]
    maps = [n for n in r["result"]["profile"] if len(n["output_shape"]) == 4]
    large = max(n["output_shape"][-1] for n in maps)
    first = sum(n["share"] for n in maps if n["output_shape"][-1] == large)
    lines += [
        "",
        f"Paired: lanes of 8 are {lanes['median']:.2f}x as fast as the ratio's own counts, and INT8 "
        f"{eight['median']:.2f}x as fast as float32. Of the float32 network's time in operators, {100 * first:.0f} % "
        "is spent on maps of the image's full size.",
    ]
    return "\n".join(lines)


def precision() -> str:
    """INT8 and half precision against float32, over members and their own tasks."""
    rows = records.read("precision")
    base = rows[-1]["config"]["base_sha256"]
    lines = [
        "| against float32 | tasks | top-1, points | sd | worst | bytes | time | kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, title in (("int8", "INT8"), ("fp16", "float16")):
        mine = [r["result"] for r in rows if r["config"]["precision"] == name and r["config"]["base_sha256"] == base]
        change = [m[name]["top1"] - m["fp32"]["top1"] for m in mine]
        lines.append(
            f"| {title} | {len(mine)} | {statistics.mean(change):+.2f} | {statistics.stdev(change):.2f} "
            f"| {min(change):+.2f} | {statistics.median(m[name]['bytes'] / m['fp32']['bytes'] for m in mine):.2f}x "
            f"| {statistics.median(m[name]['time_ratio'] for m in mine):.2f}x "
            f"| {sum(m[name]['earned'] for m in mine)} of {len(mine)} |"
        )
    return "\n".join(lines)


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"


TABLES: dict[str, Callable[[], str]] = {
    "targets": targets,
    "prune-time": prune_time,
    "zoo-speed": zoo_speed,
    "edge-latency": edge_latency,
    "precision": precision,
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
