"""Tables of time, bytes and budgets: what the delivered models cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import records

ALIGNMENT_KEEP = 0.1  # at which accuracy was measured


def prune_time() -> str:
    """The main job's wall time and what it delivers, without and with images."""
    found = [_main_job(images) for images in (False, True)]
    env = found[0]["environment"]
    lines = [
        f"| on {env['cores']} cores of {env['processor']} | names alone | with 500 images a class |",
        "|---|---|---|",
    ]
    for title, cell in MAIN_JOB.items():
        lines.append(f"| {title} | {' | '.join(cell(r['result']) for r in found)} |")
    return "\n".join(lines)


def prune_output() -> str:
    """What the main job prints from names alone."""
    return "\n".join(("```text", *_main_job(images=False)["result"]["printed"], "```"))


def _main_job(images: bool) -> dict[str, Any]:
    return [r for r in records.read("prune-time") if r["config"].get("images", True) is images][-1]


def _stages(v: dict[str, Any]) -> str:
    return ", ".join(
        f"{k.replace('_', ' ')} {s:.1f}" for k, s in v["stages_median_s"].items() if k != "total" and s >= 0.05
    )


def _latency(v: dict[str, Any]) -> str:
    slow, fast = (v["latency_ms"][k]["median"] for k in ("dense", "pruned"))
    return f"{fast:.3f} ms (dense {slow:.2f} ms, {slow / fast:.0f}x)"


MAIN_JOB: dict[str, Callable[[dict[str, Any]], str]] = {
    "top-1 on the real test images": lambda v: f"{v['top1'][-1]:.1f} %",
    "typed command to report": lambda v: f"{v['median_s']:.1f} s (median of {len(v['wall_s'])})",
    "of which (s)": _stages,
    "peak memory": lambda v: f"{v['peak_mib'] / 1024:.2f} GiB" if "peak_mib" in v else "",
    "`mvp-edge --help`": lambda v: f"{v['help_s']:.2f} s",
    "model file": lambda v: f"{v['bytes']['onnx'] / 1024:.0f} KiB (dense {v['bytes']['dense_onnx'] / 2**20:.1f} MiB)",
    "MACs": lambda v: f"{v['macs'] / 1e6:.2f} M (dense {v['base_macs'] / 1e6:.0f} M)",
    "latency, 1 thread, batch 1": _latency,
}


def edge_latency() -> str:
    """Paired latency of dense bases and of what is cut from them: the last record of each base and processor."""
    last = {}
    for r in records.read("edge-latency"):
        config = r["config"]
        last[config["base"], config.get("embedding", "whole"), r["environment"]["processor"]] = r
    return "\n\n".join(_latency_of(r) for r in last.values())


def _latency_of(r: dict[str, Any]) -> str:
    models, ratios, widths = r["result"]["models"], r["result"]["ratios"], r["config"]["widths"]
    titles = {
        "dense": "the whole base",
        "unaligned": f"keep {r['config']['keep']} as the ratio falls: {_numbers(widths['unaligned'])} units",
        "aligned": f"keep {r['config']['keep']} in lanes of 8: {_numbers(widths['aligned'])} units",
        "bytes_in": "the same, fed with uint8 images",
        "int8": "the same in INT8",
        "floor": "one unit everywhere: the runtime's floor",
    }
    width = ", width pruned too" if r["config"].get("embedding") == "pruned" else ""
    machine = f"{r['config']['base']}{width}; {r['environment']['processor']}, 1 thread, batch 1"
    lines = [f"| {machine} | ms | against dense (quartiles) | MMACs | file / weights bytes |", "|---|---|---|---|---|"]
    for name, title in titles.items():
        m, paired = models[name], ratios.get(f"dense/{name}")
        against = f"{paired['median']:.1f}x ({paired['low']:.1f} to {paired['high']:.1f})" if paired else ""
        macs = "" if m["macs"] is None else f"{m['macs'] / 1e6:.1f}"
        share = m["file_bytes"] / m["parameter_bytes"]
        lines.append(f"| {title} | {m['latency_ms']['median']:.3f} | {against} | {macs} | {share:.3f} |")
    lanes, eight = ratios["unaligned/aligned"], ratios["aligned/int8"]
    text = (
        f"Paired: lanes of 8 are {lanes['median']:.2f}x as fast as the ratio's own counts, and INT8 "
        f"{eight['median']:.2f}x as fast as float32."
    )
    return "\n".join([*lines, "", f"{text} {_where_time_goes(r['result']['profile'])}"])


def _where_time_goes(profile: list[dict[str, Any]]) -> str:
    """Say it of a convolutional network by the size of the maps, of a transformer by operator."""
    maps = [n for n in profile if n["operator"].endswith("Conv") and len(n["output_shape"]) == 4]
    if len(maps) > 1:
        large = max(n["output_shape"][-1] for n in maps)
        first = sum(n["share"] for n in profile if len(n["output_shape"]) == 4 and n["output_shape"][-1] == large)
        return f"Of its time in operators, {100 * first:.0f} % is spent on maps of the image's full size."
    shares: dict[str, float] = {}
    for n in profile:
        shares[n["operator"]] = shares.get(n["operator"], 0.0) + n["share"]
    top = sorted(shares, key=lambda o: -shares[o])[:4]
    told = ", ".join(f"{100 * shares[o]:.0f} % in {o}" for o in top)
    return f"Of its time in operators, {told}."


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
                f"| {sum(0.9 <= s <= 1.1 for s in shares)} of {len(shares)} "
                f"| {100 * max(0.0, max(shares) - 1):.1f} % "
                f"| {statistics.median(shares):.3f} ({min(shares):.3f}, {max(shares):.3f}) |"
            )
    return "\n".join(lines)


def alignment() -> str:
    """Time and accuracy of lanes at equal keep."""
    rows = records.read("alignment")
    last = {r["config"]["keep"]: r for r in rows if r["config"]["kind"] == "time"}
    scores: dict[str, dict[str, float]] = {}
    for r in rows:
        if r["config"]["kind"] == "accuracy":
            scores.setdefault(str(r["config"]["align"]), {})[r["config"]["task"]] = r["result"]["top1"]
    shared = set.intersection(*(set(tasks) for tasks in scores.values()))
    lines = [
        "| keep | `--channel-multiple` | units | MMACs | ms | against 1 | top-1 (tasks) |",
        "|---|---|---|---|---|---|---|",
    ]
    for keep, r in sorted(last.items()):
        first = r["result"]["lanes"][0]["processor_ms"]
        for lane in r["result"]["lanes"]:
            mine = scores.get(str(lane["align"]), {}) if keep == ALIGNMENT_KEEP else {}
            top1 = [mine[task] for task in shared & mine.keys()]
            shown = f"{statistics.mean(top1):.1f} ({len(top1)})" if top1 else ""
            lines.append(
                f"| {keep:g} | {lane['align']} | {lane['units']} | {lane['macs'] / 1e6:.1f} "
                f"| {lane['processor_ms']:.3f} "
                f"| {lane['processor_ms'] / first:.2f} | {shown} |"
            )
    return "\n".join(lines)
