"""Tables of an ImageNet base on photographs: accuracy by names alone at few pixels, and pictures of nothing listed."""

from __future__ import annotations

from benchmarks import records
from benchmarks.tables import markdown

PICTURES = {
    "samples": "one training picture of each ImageNet class",
    "mini-val": "mini-ImageNet, 84 px",
    "imagewoof-val": "ten dog breeds",
    "val": "ten dog breeds",
    "caltech101": "Caltech-101",
}
NETWORKS = {
    None: "Lite0 as it is",
    "lite0-64": "distilled at 64 px",
    "lite0-64.safetensors": "the same, stored in eight bits",
}
SCORES = ("softmax", "energy", "log odds", "known")


def by_names() -> str:
    """Five-way accuracy by names alone, by network, pixels and pictures."""
    rows = [
        [
            NETWORKS[r["config"]["network"]], r["config"]["pixels"], f"{r['result']['macs'] / 1e6:.0f}",
            PICTURES[r["config"]["pictures"]], f"{r['result']['top1']:.1f}", f"{r['result']['five_way']:.1f}",
        ]
        for r in records.read("photographs")
    ]  # fmt: skip
    return markdown(["network", "px", "MMACs", "pictures", "1,000-way", "five-way"], rows)


def none_of_these() -> str:
    """False accepts and AUROC of each score, by data set."""
    rows = [
        [PICTURES[r["config"]["data"]], *(f"{s['false_accepts']:.1f} / {s['auroc']:.1f}" for s in scores)]
        for r in records.read("none-of-these")
        for scores in [[r["result"][name] for name in SCORES]]
    ]
    return markdown(["pictures", *SCORES], rows)
