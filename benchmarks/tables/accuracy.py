"""Tables of accuracy: methods on the target tasks, and what images are worth."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import records
from benchmarks.measurements.targets import NARROW_VOTERS
from benchmarks.suite.store import Store

ROWS = {
    "default": "**`mvp-edge prune`, the default**: generalist, 100 iterations, distillation",
    "generalist-0": "generalist, as it is",
    "generalist-100": "generalist, 100 iterations at the paper's rate",
    "mvp-100": "MVP: 5 specialist neighbours, LEEP, top votes, 100 iterations",
    "mvp-sample-100": "MVP with votes sampled as in Eq. 1",
    "mvp-rate-100": "MVP, top votes, at the rate that held-out images choose: 0.1 instead of the paper's 0.01",
    "mvp-distill-100": "MVP with distillation",
    "mvp-0": "MVP before fine-tuning",
    "one-neighbour-100": "one specialist neighbour, 100 iterations",
    "any-100": "specialist and generalist neighbours vote, 100 iterations",
    "any-distill-100": "specialist and generalist neighbours vote, distillation",
    "random-100": "random units, 100 iterations",
    "ifp-100": "IFP, 100 iterations",
    "ifp-300": "IFP, 300 iterations at four times the rate",
    "ifp-1000": "IFP, 1000 iterations",
    "member-200": "what specialists are: pruned from the generalist at keep 0.2 in 200 iterations of 64 images",
    "base": "ceiling: the whole base model, restricted to the classes",
}
IMAGES = {
    "names-only": "**no images**: the generalist as it is, delivered ONNX file",
    "few-5": "5 images a class",
    "few-20": "20 images a class",
    "few-100": "100 images a class",
    "default": "**all 500 images a class**",
    "generalist-100": "rival: the generalist, fine-tuned at the paper's rate without distillation, all images",
    "mvp-100": "rival: MVP from specialists only, at the paper's rate, all images",
    "base": "ceiling: the whole base model, restricted to the classes",
}
WITHOUT_ZOO = ("random-100", "ifp-100", "ifp-300", "ifp-1000")
PAPER = {"mvp-sample-100": "88.98", "random-100": "33.12", "ifp-1000": "87.99"}


def targets() -> str:
    """Accuracy by method, mean and standard deviation over the target tasks, and over those that all were run on."""
    found = {m: _latest_base([r for r in records.read("targets") if r["config"]["method"] == m]) for m in ROWS}
    found = {method: mine for method, mine in found.items() if mine}
    top1 = {m: {r["config"]["task"]: r["result"]["top1"] for r in mine} for m, mine in found.items()}
    same = set.intersection(*map(set, top1.values()))
    lines = [
        f"| method | tasks | top-1 mean | sd | on the same {len(same)} | paper | MMACs | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, mine in found.items():
        seconds = statistics.median(r["result"]["seconds"] for r in mine)
        there = f"{statistics.mean(top1[method][t] for t in sorted(same)):.2f}" if same else ""
        lines.append(
            f"| {ROWS[method]} | {len(mine)} | {_spread(top1[method].values())} | {there} | {PAPER.get(method, '')} "
            f"| {mine[-1]['result']['macs'] / 1e6:.1f} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def _latest_base(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of the newest base file and teacher and, where specialists vote, of the largest zoo.

    IFP and random pruning, which need no zoo, were run before the base was packed to int8 and not repeated.
    """
    newest = records.read("names-only")[-1]["config"]["base_sha256"]
    mine = [r for r in rows if r["config"]["base_sha256"] == newest or r["config"]["method"] in WITHOUT_ZOO]
    mine = [r for r in mine if r["config"].get("teacher") == mine[-1]["config"].get("teacher")]
    most = max((r["config"]["members"] for r in mine), default=0)
    return [r for r in mine if r["config"]["members"] == most or not r["config"]["method"].startswith(NARROW_VOTERS)]


def _spread(values: Iterable[float]) -> str:
    """Return mean and standard deviation as two cells."""
    found = list(values)
    return f"{statistics.mean(found):.2f} | " + (f"{statistics.stdev(found):.2f}" if len(found) > 1 else "")


def images() -> str:
    """Accuracy by the number of training images, on random lists and on superclasses."""
    lines = ["| | 20 random lists | sd | 20 superclasses | sd |", "|---|---|---|---|---|"]
    for method, title in IMAGES.items():
        cells = []
        for lists in ("random", "superclasses"):
            top1 = _top1(method, lists)
            cells.append(_spread(top1) + (f" ({len(top1)} lists)" if len(top1) != 20 else "") if top1 else " | ")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    errors = [abs(r["result"]["told"] - r["result"]["top1"]) for r in records.read("names-only")]
    told = (
        "Without images the report tells an accuracy from outputs that were stored of these very test images. What "
        f"storing them costs: over {len(errors)} lists that accuracy is {statistics.mean(errors):.2f} points off what "
        f"the delivered file scores on the same images on average, {max(errors):.2f} at most."
    )
    return "\n".join([*lines, *_whole_base(), "", told])


def _whole_base() -> list[str]:
    """Compare the whole base, fine-tuned, with what it can be compared with: on the few lists that it was tried on."""
    top1 = {
        method: {r["config"]["task"]: r["result"]["top1"] for r in
                 _latest_base([r for r in records.read("targets") if r["config"]["method"] == method])}
        for method in ("base-100", "base", "default")
    }  # fmt: skip
    shared = set.intersection(*(set(scores) for scores in top1.values()))
    if not shared:
        return []
    tuned, whole, ours = (statistics.mean(scores[t] for t in shared) for scores in top1.values())
    lists = "the one list" if len(shared) == 1 else f"the {len(shared)} lists"
    return [
        "",
        f"The whole base fine-tuned, 77 times the MACs, was tried on few: on {lists} it has {tuned:.2f}, restricted to "
        f"the classes as it is {whole:.2f}, and the default {ours:.2f}.",
    ]


SUMMARY = {  # title, images, row of `images` (random lists, superclasses), row of the experiment `rivals`
    "**`mvp-edge prune`, class names only**": ("none", "names-only", "tool-0.1"),
    "**`mvp-edge prune --data`**": ("500 per class", "default", "tool-0.1"),
    "base, magnitude-pruned to the same size, distilled": ("500 per class", None, "magnitude-distill-0.1"),
    "MobileNetV2 of timm, ImageNet weights": ("500 per class", None, "mobilenetv2-32"),
    "the whole base, not pruned": ("", "base", None),
}


def summary() -> str:
    """Accuracy, latency and size of the tool, of baselines and of the base: the one table of the README."""
    lines = [
        "| | images | top-1 (sd) | top-1, superclasses (sd) | latency | MMACs | KiB |",
        "|---|---|---|---|---|---|---|",
    ]
    rivals = {line["row"]: line for line in Store().lines("rivals")}
    timed = rivals["latency"]["notes"]
    dense = next(r["result"] for r in reversed(records.read("edge-latency")) if "resnet18" in r["config"]["base"])
    for title, (images, method, rival) in SUMMARY.items():
        if method:
            random, alike = (_in_brackets(_top1(method, lists)) for lists in ("random", "superclasses"))
        else:
            random, alike = f"{rivals[rival]['top1_mean']:.2f} ({rivals[rival]['top1_sd']:.2f})", ""
        if rival:
            cells = [
                f"{timed[f'{rival}/ratio']:.2g}x",
                f"{timed[f'{rival}/mmacs']:.1f}",
                f"{timed[f'{rival}/kib']:,.0f}",
            ]
        else:
            model, ratio = dense["models"]["dense"], dense["ratios"]["dense/aligned"]["median"]
            cells = [f"{ratio:.0f}x", f"{model['macs'] / 1e6:.1f}", f"{model['file_bytes'] / 1024:,.0f}"]
        lines.append(f"| {title} | {images} | {random} | {alike} | {' | '.join(cells)} |")
    ms = timed["tool-0.1/ms"]
    return "\n".join([*lines, "", f"Means over 20 lists. Latency is relative to the first row, {ms:.2f} ms."])


def _top1(method: str, lists: str) -> list[float]:
    if method == "names-only":
        rows = [r for r in records.read(method) if r["config"]["lists"] == lists and r["config"]["keep"] == 0.1]
    else:
        question = "targets" if lists == "random" else lists
        rows = _latest_base([r for r in records.read(question) if r["config"]["method"] == method])
    return [r["result"]["top1"] for r in rows]


def _in_brackets(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f} ({statistics.stdev(values):.2f})"


UNSEEN = {"generalist-0": "as it is", "few-5": "5 images a class", "default": "20 images a class"}


def unseen() -> str:
    """Accuracy with few images that are new to the members, on the lists on which all rows were run."""
    titles, columns = [], []
    for question, lists in (("targets-unseen", "random lists"), ("superclasses-unseen", "superclasses")):
        top1: dict[str, dict[str, float]] = {m: {} for m in UNSEEN}
        for r in _latest_base([r for r in records.read(question) if r["config"]["method"] in UNSEEN]):
            top1[r["config"]["method"]][r["config"]["task"]] = r["result"]["top1"]
        shared = set.intersection(*(set(v) for v in top1.values()))
        if shared:
            titles.append(f" {lists} | sd |")
            columns.append({m: [v[t] for t in shared] for m, v in top1.items()})
    lines = [f"| |{''.join(titles)}", f"|---|{'---|---|' * len(titles)}"]
    for method, title in UNSEEN.items():
        cells = [f"{_spread(c[method])} ({len(c[method])} lists)" for c in columns]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


TEACHERS = {
    "taught-by-base": "the base model, of all images",
    "taught-by-member": "the largest generalist, of all images",
    "taught-by-cascade": "**the base model where that member is unsure**",
    "untaught": "nobody",
}


def teachers() -> str:
    """What each teacher, or none, makes of a generalist, on held-out images, on lists on which all were tried."""
    lines = ["| who teaches | lists | held-out top-1 | sd | seconds, asking included |", "|---|---|---|---|---|"]
    methods = list(TEACHERS)
    lines += _taught("targets-held-out", "random lists", methods[:3])
    lines += _taught("superclasses-held-out", "superclasses", methods[2:])
    taught, alone = (_by_list("superclasses-held-out", m) for m in methods[2:])
    gains = [taught[t]["top1"] - alone[t]["top1"] for t in taught.keys() & alone.keys()]
    error = statistics.stdev(gains) / len(gains) ** 0.5
    return "\n".join(lines) + (
        f"\n\nOn the same superclasses a teacher is worth {statistics.mean(gains):.2f} points (standard error "
        f"{error:.2f})."
    )


def _taught(question: str, lists: str, methods: Sequence[str]) -> list[str]:
    found = {m: _by_list(question, m) for m in methods}
    shared = set.intersection(*map(set, found.values()))
    rows = {m: [results[task] for task in shared] for m, results in found.items()}
    return [
        f"| {TEACHERS[m]} | {len(mine)} {lists} | {_spread(r['top1'] for r in mine)} | "
        f"{statistics.mean(r['seconds'] for r in mine):.0f} |"
        for m, mine in rows.items()
    ]


def _by_list(question: str, method: str) -> dict[str, dict[str, Any]]:
    return {r["config"]["task"]: r["result"] for r in records.read(question) if r["config"]["method"] == method}
