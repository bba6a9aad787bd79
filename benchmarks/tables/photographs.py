"""Tables of an ImageNet base on photographs: accuracy by names alone at few pixels, and pictures of nothing listed."""

from __future__ import annotations

from benchmarks.tables import frame, listed

PICTURES = {
    "samples": "one training picture of each ImageNet class",
    "mini-val": "mini-ImageNet, 84 px",
    "imagewoof-val": "ten dog breeds",
    "val": "ten dog breeds",
    "caltech101": "Caltech-101",
}
NETWORKS = {
    "": "Lite0 as it is",
    "lite0-64": "distilled at 64 px",
    "lite0-64.safetensors": "the same, stored in eight bits",
}
SCORES = ("softmax", "energy", "log odds", "known")


def by_names() -> str:
    """Five-way accuracy by names alone, by network, pixels and pictures."""
    rows = frame("photographs")
    rows = rows.assign(network=[NETWORKS[n] for n in rows.network.fillna("")], pictures=rows.pictures.map(PICTURES))
    return listed(rows.assign(macs=rows.macs / 1e6), {
        "network": "{network}", "px": "{pixels}", "MMACs": "{macs:.0f}", "pictures": "{pictures}",
        "1,000-way": "{top1:.1f}", "five-way": "{five_way:.1f}",
    })  # fmt: skip


def none_of_these() -> str:
    """False accepts and AUROC of each score, by data set."""
    rows = frame("none-of-these")
    scores = {name: f"{{{name}[false_accepts]:.1f}} / {{{name}[auroc]:.1f}}" for name in SCORES}
    return listed(rows.assign(data=rows.data.map(PICTURES)), {"pictures": "{data}", **scores})
