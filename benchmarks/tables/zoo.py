"""Tables of the bundled zoo: how it is packed, and how fast members are made."""

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
