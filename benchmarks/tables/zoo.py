"""Tables of the bundled zoo: how it is packed, how fast members are made, what generated images are like."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import records


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
