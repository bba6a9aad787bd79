"""Tables of questions that are settled: their code is gone; their records name the commits that had it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks import records
from benchmarks.records import dirty_mark
from benchmarks.tables import frame, listed, mark, markdown


def packing() -> str:
    """What packing costs: the first step on an earlier zoo, the second on today's."""
    rows = frame("packing")
    mib = [" → ".join(f"{n / 2**20:.1f}" for n in sizes) for sizes in rows.bytes]
    base = [" → ".join(f"{t:.2f}" for t in b) if isinstance(b, list) else "as it was" for b in rows.base]
    return listed(rows.assign(mib=mib, base=base), {
        "stored weights": "{before} → {after}{mark}", "members": "{members}", "base, top-1": "{base}",
        "members, points (worst)": "{mean_change:+.2f} ({worst_change:+.1f})",
        "same voters": "{same_voters} of {tasks} lists", "same units": "{same_plan} of {tasks}", "MiB": "{mib}",
    })  # fmt: skip


def alignment() -> str:
    """Time and accuracy of channel multiples at equal keep; accuracy was measured at one of them."""
    rows = frame("alignment")
    scored = rows[rows.kind == "accuracy"]
    top1 = scored.assign(align=scored["align"].astype(str)).pivot_table("top1", "task", "align").dropna()
    times = rows[rows.kind == "time"].drop_duplicates("keep", keep="last").sort_values("keep")
    shown = {str(a): f"{mean:.1f} ({len(top1)})" for a, mean in top1.mean().items()}
    lanes = [
        {**lane, "keep": r.keep, "record": r.record, "mmacs": lane["macs"] / 1e6,
         "ratio": lane["processor_ms"] / r.lanes[0]["processor_ms"],
         "top1": shown[str(lane["align"])] if r.keep == scored.keep.iloc[0] else ""}
        for r in times.itertuples() for lane in r.lanes
    ]  # fmt: skip
    return listed(lanes, {
        "keep": "{keep:g}{mark}", "`--channel-multiple`": "{align}", "units": "{units}", "MMACs": "{mmacs:.1f}",
        "ms": "{processor_ms:.3f}", "against 1": "{ratio:.2f}", "top-1 (tasks)": "{top1}",
    })  # fmt: skip


def zoo_speed() -> str:
    """Members per hour, sliced against masked."""
    rows = frame("zoo-speed").tail(1)
    (r,) = rows.to_dict("records")
    sliced, masked = (pd.Series(r[k]).median() for k in ("sliced_s", "masked_s_extrapolated"))
    head = [f"IFP, {r['fit']['iterations']} iterations, 2 cores{mark(rows)}", "seconds a member", "members an hour"]
    return markdown(head, [
        ["sliced at each pruning event", f"{sliced:.0f}", f"{r['members_per_hour']:.0f}"],
        ["masked (extrapolated from timed steps)", f"{masked:.0f}", f"{3600 / masked:.1f}"],
        ["ratio", f"{r['ratio']:.1f}x", ""],
    ])  # fmt: skip


def ahnp_scores() -> str:
    """AHNP's settings on the tasks on which every one of them was run."""
    rows = frame("ahnp-scores-held-out")
    rows = rows[rows.base_sha256 == rows.base_sha256.iloc[-1]]
    rows = rows[rows.groupby("task").method.transform("nunique") == rows.method.nunique()]
    body = []
    for name, mine in rows.groupby("method", sort=False):
        kind, *values = str(name).split()
        title = f"AHNP, weight {values[0]}, threshold {values[1]}" if kind == "ahnp" else f"IFP, {values[0]}"
        forced = f"{100 * mine.forced.mean():.0f} %" if kind == "ahnp" else ""
        body.append([title, f"{mine.top1.mean():.2f}{mark(mine)}", forced])
    fit = rows.fit.iloc[-1]
    head = f"{fit['iterations']} steps of {fit['batch_size']} images, {rows.task.nunique()} tasks"
    return markdown([head, "held-out top-1", "left to the end of the allotted steps"], body)


def folded_norms() -> str:
    """What the page says of the latest record of folded norms."""
    rows = frame("folded-norms").tail(1)
    (r,) = rows.to_dict("records")
    return (
        "{base} with folded norms at {pixels} px, {count} classes of {data}, {fit[iterations]} steps of "
        "{fit[batch_size]} images, top-1 on {held_out} held-out images{mark}: {before:.1f} % before training, "
        "{folded:.1f} % after it as the weights are, {unfolded:.1f} % after it with norms measured anew. Measuring "
        "them changes logits by {max_abs_diff:.1e} at most."
    ).format(**r, count=len(r["classes"]), mark=mark(rows))


SCORES = {
    "leep": "LEEP as published",
    "halves": "halves, both ways",
    "ours": "leave-one-out, a prior of one image",
    "tenth": "leave-one-out, a prior of a tenth of an image (used)",
}


def leep() -> str:
    """What cross-fitting LEEP does to the ranking of members, and what noise scores."""
    found = frame("leep")
    tasks = found[found.kind == "task"]
    noise = {r["images"]: r["above_chance"] for r in found.rows.iloc[0] if r["source_classes"] == 1000}
    rows = [
        {"title": title, "images": images, "noise": noise[drawn][name],
         **pd.DataFrame([*tasks[f"{size}/{name}"]]).mean()}
        for size, images, drawn in (("few", 25, 25), ("many", 256, 255)) for name, title in SCORES.items()
    ]  # fmt: skip
    return listed(rows, {
        "score": "{title}", "images": "{images}", "noise of 1,000 classes above chance": "{noise:+.2f}",
        "Spearman": "{spearman:.2f}", "probe of the first": "{probe_first:.1f}", "voted": "{voted:.1f}",
    })  # fmt: skip


def float_layers() -> str:
    """INT8 with its worst layers in float32: accuracy, agreement with float32, bytes and time against all in INT8."""
    latest = {r["config"]["network"]: r for r in records.read("float-layers")}
    rows = []
    for network, record in latest.items():
        result, mark = record["result"], dirty_mark([record])
        rows.append((f"{network}{mark}, float32", f"{_top1(result['float32']):.1f}", "", "", "", ""))
        whole = result["left"]["0"]
        for count, v in result["left"].items():
            title = "INT8" if count == "0" else f"INT8 but for {count}"
            rows.append((
                f"{network}, {title}", f"{_top1(v):.1f}", f"{v['same_top1']:.1f}", f"{v['mean_abs_diff']:.3f}",
                f"{v['bytes'] / whole['bytes']:.2f}x", f"{v['time']['median']:.2f}x" if v["time"] else "",
            ))  # fmt: skip
    head = ("network", "top-1, %", "first guess of float32, %", "mean difference of a logit", "bytes", "time")
    return markdown(head, rows)


def _top1(found: dict[str, Any]) -> float:
    """Return the accuracy of a classifier, or of a body on lists of five."""
    return found["top1"] if "top1" in found else dict(map(tuple, found["curve"]))[5]
