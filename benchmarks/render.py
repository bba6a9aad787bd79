"""Write the README's result tables from the records, or check that they agree.

python -m benchmarks.render [--check]
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import folded_norms, records, runtimes
from benchmarks.registry import experiments
from benchmarks.tables import tables
from benchmarks.targets import NARROW_VOTERS

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
    "ifp-300": "IFP, 300 iterations at four times the rate",
    "ifp-1000": "IFP, 1000 iterations",
    "member-200": "what narrow members are: pruned from the broad one at keep 0.2 in 200 iterations of 64 images",
    "base": "ceiling: the whole base model, restricted to the classes",
}
IMAGES = {
    "names-only": "**no images**: the broad member as it is, delivered ONNX file",
    "few-5": "5 images a class",
    "few-20": "20 images a class",
    "few-100": "100 images a class",
    "default": "**all 500 images a class**",
    "broad-100": "rival: the broad member, fine-tuned without distillation, all images",
    "mvp-100": "rival: MVP from narrow members only, all images",
    "base-100": "rival: the whole base model fine-tuned, 77 times the MACs",
    "base": "ceiling: the whole base model, restricted to the classes",
}
WITHOUT_ZOO = ("random-100", "ifp-100", "ifp-300", "ifp-1000")
PAPER = {"mvp-sample-100": "88.98", "random-100": "33.12", "ifp-1000": "87.99"}


def targets() -> str:
    """Accuracy by method, mean and standard deviation over the target tasks."""
    lines = ["| method | tasks | top-1 mean | sd | paper | MMACs | seconds |", "|---|---|---|---|---|---|---|"]
    top1: dict[str, dict[str, float]] = {}
    for method, title in ROWS.items():
        mine = _latest_base([r for r in records.read("targets") if r["config"]["method"] == method])
        if not mine:
            continue
        top1[method] = {r["config"]["task"]: r["result"]["top1"] for r in mine}
        seconds = statistics.median(r["result"]["seconds"] for r in mine)
        lines.append(
            f"| {title} | {len(mine)} | {_spread(top1[method].values())} | {PAPER.get(method, '')} "
            f"| {mine[-1]['result']['macs'] / 1e6:.1f} | {seconds:.0f} |"
        )
    return "\n".join([*lines, "", _paired(top1)])


def _paired(top1: dict[str, dict[str, float]]) -> str:
    """Compare the methods on the tasks for which those that were not run on all have been."""
    lines = []
    for rarest in ("ifp-1000", "mvp-100", "member-200"):
        tasks = top1[rarest].keys()
        means = {m: statistics.mean(v[t] for t in tasks) for m, v in top1.items() if tasks <= v.keys()}
        listed = ", ".join(f"{m} {means[m]:.2f}" for m in ROWS if m in means)
        lines.append(f"On the {len(tasks)} tasks on which all of these were run: {listed}.")
    return "\n\n".join(lines)


def _latest_base(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of the newest file of the base model, and where narrow members vote, of its largest zoo.

    IFP and random pruning, which need no zoo, were run before the base was packed to int8 and not repeated.
    """
    newest = records.read("names-only")[-1]["config"]["base_sha256"]
    mine = [r for r in rows if r["config"]["base_sha256"] == newest or r["config"]["method"] in WITHOUT_ZOO]
    most = max((r["config"]["members"] for r in mine), default=0)
    return [r for r in mine if r["config"]["members"] == most or not r["config"]["method"].startswith(NARROW_VOTERS)]


def _spread(values: Iterable[float]) -> str:
    """Return mean and standard deviation as two cells."""
    found = list(values)
    return f"{statistics.mean(found):.2f} | {statistics.stdev(found) if len(found) > 1 else 0:.2f}"


def images() -> str:
    """Accuracy by the number of training images, on random lists and on superclasses."""
    lines = ["| | 20 random lists | sd | 20 superclasses | sd |", "|---|---|---|---|---|"]
    for method, title in IMAGES.items():
        cells = []
        for lists in ("random", "superclasses"):
            if method == "names-only":
                rows = [r for r in records.read(method) if r["config"]["lists"] == lists and r["config"]["keep"] == 0.1]
            else:
                question = "targets" if lists == "random" else lists
                rows = [r for r in records.read(question) if r["config"]["method"] == method]
            top1 = [r["result"]["top1"] for r in (rows if method == "names-only" else _latest_base(rows))]
            cells.append(_spread(top1) + (f" ({len(top1)} lists)" if len(top1) != 20 else "") if top1 else " | ")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    errors = [abs(r["result"]["told"] - r["result"]["top1"]) for r in records.read("names-only")]
    lines += ["", f"Without images the report tells an accuracy from stored outputs: over {len(errors)} lists it is "
              f"{statistics.mean(errors):.2f} points off what the delivered file scores on the real images on average, "
              f"{max(errors):.2f} at most."]  # fmt: skip
    return "\n".join(lines)


UNSEEN = {"broad-0": "as it is", "few-5": "5 images a class", "default": "20 images a class"}


def unseen() -> str:
    """Accuracy with few images that are new to the members, on the lists on which all rows were run."""
    lines = ["| | random lists | sd | superclasses | sd |", "|---|---|---|---|---|"]
    columns = []
    for question in ("targets-unseen", "superclasses-unseen"):
        top1: dict[str, dict[str, float]] = {m: {} for m in UNSEEN}
        for r in _latest_base([r for r in records.read(question) if r["config"]["method"] in UNSEEN]):
            top1[r["config"]["method"]][r["config"]["task"]] = r["result"]["top1"]
        shared = set.intersection(*(set(v) for v in top1.values()))
        columns.append({m: [v[t] for t in shared] for m, v in top1.items()})
    for method, title in UNSEEN.items():
        cells = [f"{_spread(c[method])} ({len(c[method])} lists)" if c[method] else " | " for c in columns]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def packing() -> str:
    """What packing costs: the first step on an earlier zoo, the second on the bundled one."""
    lines = ["| stored weights | members | base, top-1 | members, points (worst) | same voters | same units | MiB |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in records.read("packing"):
        config, v = r["config"], r["result"]
        base = " → ".join(f"{top1:.2f}" for top1 in v.get("base", [])) or "as it was"
        change = f"{v['mean_change']:+.2f} ({v['worst_change']:+.1f})"
        size = " → ".join(f"{n / 2**20:.1f}" for n in v["bytes"])
        lines.append(
            f"| {config['before']} → {config['after']} | {config['members']} | {base} | {change} "
            f"| {v['same_voters']} of {v['tasks']} lists | {v['same_plan']} of {v['tasks']} | {size} |"
        )
    return "\n".join(lines)


def prune_time() -> str:
    """The main job's wall time and what it delivers, without and with images."""
    rows = records.read("prune-time")
    found = [[r for r in rows if r["config"].get("images", True) is images][-1] for images in (False, True)]
    env = found[0]["environment"]
    lines = [
        f"| on {env['cores']} cores of {env['processor']} | names alone | with 500 images a class |",
        "|---|---|---|",
    ]
    for title, cell in MAIN_JOB.items():
        lines.append(f"| {title} | {' | '.join(cell(r['result']) for r in found)} |")
    return "\n".join(lines)


def _stages(v: dict[str, Any]) -> str:
    return ", ".join(
        f"{k.replace('_', ' ')} {s:.1f}" for k, s in v["stages_median_s"].items() if k != "total" and s >= 0.05
    )


def _latency(v: dict[str, Any]) -> str:
    slow, fast = (v["latency_ms"][k]["median"] for k in ("dense", "pruned"))
    return f"{fast:.3f} ms (dense {slow:.2f} ms, {slow / fast:.0f}x)"


MAIN_JOB: dict[str, Callable[[dict[str, Any]], str]] = {
    "top-1 on the real test images": lambda v: f"{v['top1'][-1]:.1f} %",
    "typed command to report, median of 3": lambda v: f"{v['median_s']:.1f} s",
    "of which (s)": _stages,
    "peak memory": lambda v: f"{v['peak_mib'] / 1024:.2f} GiB" if "peak_mib" in v else "",
    "`mvp-edge --help`": lambda v: f"{v['help_s']:.2f} s",
    "model file": lambda v: f"{v['bytes']['onnx'] / 1024:.0f} KiB (dense {v['bytes']['dense_onnx'] / 2**20:.1f} MiB)",
    "MACs": lambda v: f"{v['macs'] / 1e6:.2f} M (dense {v['base_macs'] / 1e6:.0f} M)",
    "latency, 1 thread, batch 1": _latency,
}


NEAREST = {
    "pixel_l2": "distance in pixels (values 0 to 1)",
    "feature_l2": "distance in the base model's features",
    "feature_cosine": "cosine in the base model's features",
}


def exemplars() -> str:
    """How near generated images come to training images, and what networks take them for."""
    v = records.read("exemplars")[-1]["result"]
    nearest, judges = v["nearest_training_image"], v["networks"]
    lines = ["| nearest training image | generated: median (5 %, 95 %) | test images |", "|---|---|---|"]
    for key, title in NEAREST.items():
        cells = [
            "{median:.3f} ({p05:.3f}, {p95:.3f})".format(**nearest[key][k]) for k in ("exemplars", "test_images")
        ]  # fmt: skip
        lines.append(f"| {title} | {' | '.join(cells)} |")
    cosines = v["cosine_within_class"]
    lines.append(
        f"| mean cosine of two images of a class | {cosines['exemplars']:.3f} | {cosines['test_images']:.3f} |"
    )
    told = [
        f"{key.replace('_', ' ')} {j['exemplars']:.1f} % (real test images {j['test']:.1f} %)"
        for key, j in judges.items() if j["test"] is not None
    ]  # fmt: skip
    return "\n".join([*lines, "", f"Taken for their class by: {', '.join(told)}."])


def exemplar_uses() -> str:
    """What generated images are good for."""
    rows = records.read("exemplar-uses")
    recipe = rows[-1]["config"]["recipe"]
    rows = [r for r in rows if r["config"]["recipe"] == recipe]
    lines = [f"| top-1, mean over {len(rows)} lists | test | held-out |", "|---|---|---|"]
    for name in rows[-1]["result"]:
        cells = [f"{statistics.mean(r['result'][name][k] for r in rows):.2f}" for k in ("test", "held-out")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
    "images": images,
    "targets-unseen": unseen,
    "packing": packing,
    "prune-time": prune_time,
    "zoo-speed": zoo_speed,
    "edge-latency": edge_latency,
    "precision": precision,
    "exemplars": exemplars,
    "exemplar-uses": exemplar_uses,
    "budgets": budgets,
    "alignment": alignment,
    "runtimes": runtimes.table,
    "folded-norms": folded_norms.sentence,
    **tables(),
}

DERIVED = ("images", *experiments())  # tables that look for their records themselves


def filled(name: str) -> str:
    """Return a table, or say that there is nothing to show yet."""
    return TABLES[name]() if name in DERIVED or records.read(name) else "Not measured yet."


def rendered(text: str) -> str:
    """Return the README with every `<!-- table NAME -->` block filled in anew."""
    for name in TABLES:
        block = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = block.sub(lambda m, name=name: f"{m[1]}{filled(name)}\n{m[2]}", text)
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
