"""Tables of time, bytes and budgets: what the delivered models cost, and how the zoo is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from benchmarks import records
from benchmarks.tables import frame, listed, mark, markdown


def prune_time() -> str:
    """The main job's wall time and what it delivers, without and with images."""
    found = [_main_job(images) for images in (False, True)]
    env = found[0]["environment"]
    names, pictures = (records.dirty_mark([r]) for r in found)
    machine = f"on {env['cores']} cores of {env['processor']}"
    head = [machine, f"names alone{names}", f"with 500 images a class{pictures}"]
    first, second = (_main_cells(r["result"]) for r in found)
    return markdown(head, ([title, cell, second[title]] for title, cell in first.items()))


def _main_cells(v: dict[str, Any]) -> dict[str, str]:
    slow, fast = (v["latency_ms"][k]["median"] for k in ("dense", "pruned"))
    return {
        "top-1 on test images, or expected": f"{v['top1'][-1] if v['top1'][-1] is not None else v['expected']:.1f} %",
        "typed command to report": f"{v['median_s']:.1f} s (median of {len(v['wall_s'])})",
        "of which (s)": _stages(v["stages_median_s"]),
        "peak memory": f"{v['peak_mib'] / 1024:.2f} GiB" if "peak_mib" in v else "",
        "`mvp-edge --help`": f"{v['help_s']:.2f} s",
        "model file": f"{v['bytes']['onnx'] / 1024:.0f} KiB (dense {v['bytes']['dense_onnx'] / 2**20:.1f} MiB)",
        "MACs": f"{v['macs'] / 1e6:.2f} M (dense {v['base_macs'] / 1e6:.0f} M)",
        "latency, 1 thread, batch 1": f"{fast:.3f} ms (dense {slow:.2f} ms, {slow / fast:.0f}x)",
    }


def prune_output() -> str:
    """What the main job prints from names alone."""
    return "\n".join(("```text", *_main_job(images=False)["result"]["printed"], "```"))


def _main_job(images: bool) -> dict[str, Any]:
    alone = [r for r in records.read("prune-time") if not {"beside", "max_macs"} & r["config"].keys()]
    return [r for r in alone if r["config"].get("images", True) is images][-1]


def before_after() -> str:
    """Earlier versions and this one, in turns on one machine: the last record of each pair."""
    last = {}
    for r in records.read("prune-time"):
        if "beside" in r["config"]:
            last[tuple(r["config"].get(k) for k in ("beside", "images", "zoo", "max_macs"))] = r
    rows = []
    for r in last.values():
        config, now, before = r["config"], r["result"], r["result"]["beside"]
        what = "images" if config["images"] else "names alone"
        if "max_macs" in config:
            what += f", at most {config['max_macs'].removesuffix('M')} MMACs"
        job = f"{what}, `{config['zoo']}`{records.dirty_mark([r])}"
        ratios = np.divide(before["wall_s"], now["wall_s"])
        rows.append([
            job, f"`{config['beside']}`", f"{before['median_s']:.1f}", f"{now['median_s']:.1f}",
            f"{np.median(ratios):.1f}x", f"{before['peak_mib']}", f"{now['peak_mib']}", str(len(ratios)),
            *(_stages(v["stages_median_s"]) for v in (before, now)),
        ])  # fmt: skip
    head = ["job", "before", "s before", "s now", "paired", "MiB before", "MiB now", "runs", "of which before", "now"]
    return markdown(head, rows)


def _stages(seconds: dict[str, float]) -> str:
    return ", ".join(f"{k.replace('_', ' ')} {s:.1f}" for k, s in seconds.items() if k != "total" and s >= 0.05)


def edge_latency() -> str:
    """Paired latency of dense bases and of what is cut from them: the last record of each base and processor."""
    last = {}
    for r in records.read("edge-latency"):
        config = r["config"]
        last[config["base"], config.get("embedding", "whole"), r["environment"]["processor"]] = r
    return "\n\n".join(_latency_of(r) for r in last.values())


def _latency_of(r: dict[str, Any]) -> str:
    models, ratios, widths = r["result"]["models"], r["result"]["ratios"], r["config"]["widths"]
    keep = f"keep {r['config']['keep']}"
    titles = {
        "dense": "the whole base",
        "unaligned": f"{keep} as the ratio falls: {_numbers(widths['unaligned'])} units",
        "aligned": f"{keep} in multiples of 8: {_numbers(widths['aligned'])} units",
        "bytes_in": "the same, fed with uint8 images",
        "int8": "the same in INT8",
        "floor": "one unit everywhere: the unprunable cost",
    }
    width = ", width pruned too" if r["config"].get("embedding") == "pruned" else ""
    machine = f"{r['config']['base']}{width}; {r['environment']['processor']}, 1 thread, batch 1"
    rows = []
    for name, title in titles.items():
        m, paired = models[name], ratios.get(f"dense/{name}")
        against = f"{paired['median']:.1f}x ({paired['low']:.1f} to {paired['high']:.1f})" if paired else ""
        rows.append([
            title, f"{m['latency_ms']['median']:.3f}", against, "" if m["macs"] is None else f"{m['macs'] / 1e6:.1f}",
            f"{m['file_bytes'] / m['parameter_bytes']:.3f}",
        ])  # fmt: skip
    head = [machine + records.dirty_mark([r]), "ms", "against dense (quartiles)", "MMACs", "file / weights bytes"]
    return (
        f"{markdown(head, rows)}\n\nPaired: multiples of 8 are {ratios['unaligned/aligned']['median']:.2f}x as fast as "
        f"the ratio's own counts, and INT8 {ratios['aligned/int8']['median']:.2f}x as fast as float32. "
        f"{_where_time_goes(r['result']['profile'])}"
    )


def _where_time_goes(profile: list[dict[str, Any]]) -> str:
    """Return it for a convolutional network by the size of the maps, for a transformer by operator."""
    nodes = pd.DataFrame(profile)
    is_map = nodes.output_shape.str.len() == 4
    if (nodes.operator.str.endswith("Conv") & is_map).sum() > 1:
        side = nodes.output_shape.str[-1]
        large = side[nodes.operator.str.endswith("Conv") & is_map].max()
        first = nodes.share[is_map & (side == large)].sum()
        return f"Of its time in operators, {100 * first:.0f} % is spent on maps of the image's full size."
    top = nodes.groupby("operator", sort=False).share.sum().sort_values(ascending=False, kind="stable").head(4)
    return f"Of its time in operators, {', '.join(f'{100 * share:.0f} % in {name}' for name, share in top.items())}."


def precision() -> str:
    """INT8 and half precision against float32, over members and their own tasks."""
    rows = frame("precision")
    rows = rows[rows.base_sha256 == rows.base_sha256.iloc[-1]]
    body = []
    for name, title in (("int8", "INT8"), ("fp16", "float16")):
        mine = rows[rows.precision == name]
        found, full = pd.DataFrame(list(mine[name])), pd.DataFrame(list(mine.fp32))
        change = found.top1 - full.top1
        body.append([
            title, f"{len(mine)}{mark(mine)}", f"{change.mean():+.2f}", f"{change.std():.2f}", f"{change.min():+.2f}",
            f"{(found.bytes / full.bytes).median():.2f}x", f"{found.time_ratio.median():.2f}x",
            f"{found.earned.sum()} of {len(mine)}",
        ])  # fmt: skip
    return markdown(["against float32", "tasks", "top-1, points", "sd", "worst", "bytes", "time", "kept"], body)


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"


def budgets() -> str:
    """How many budgets were met, by what they limit, and how near to the limit."""
    rows = frame("budgets")
    rows = rows[(rows.method == "mvp") & (rows.rule == "uniform")]
    body = []
    for name, title in (("latency_ms", "latency"), ("macs", "MACs"), ("params", "parameters"), ("size_kib", "file")):
        mine = rows[[set(b) == {name} for b in rows.budget]]
        used = mine.share[mine.status == "ok"].str[name]
        if len(used):
            body.append([
                title, f"{len(mine)}{mark(mine)}", len(mine) - len(used),
                f"{used.between(0.9, 1.1).sum()} of {len(used)}", f"{100 * max(0.0, used.max() - 1):.1f} %",
                f"{used.median():.3f} ({used.min():.3f}, {used.max():.3f})",
            ])  # fmt: skip
    head = ["limit", "budgets", "out of reach", "within 10 %", "most over", "part used, median (least, most)"]
    return markdown(head, body)


LARGE_DATA = {
    "folder": "empty files in 100 folders, listed",
    "list.csv": "rows of a CSV, listed",
    "small": "pictures of 48 x 48 pixels, looked at",
    "large": "photographs of 12 megapixels, looked at",
}


def folders() -> str:
    """Time and memory of large data: to list them, and to look at them as `mvp-edge data` does."""
    found = {r["config"]["data"]: r for r in records.read("folders")}
    rows = [
        (f"{found[k]['config']['files']:,} {what}", f"{(v := found[k]['result'])['processor_s']:.0f}", f"{v['mib']:,}")
        for k, what in LARGE_DATA.items()
        if k in found
    ]
    return markdown(("given", "seconds of one processor core", "MiB above the process's own"), rows)


def training_speed() -> str:
    """What forms of layers gain in a training step, by network and instructions."""
    rows = [
        {
            "network": f"{r['network']}, {r['pixels']} px, batch {r['batch']}",
            "instructions": "AVX-512 and others" if r["instructions"] == "all" else r["instructions"],
            "plain": r["images_per_s"]["float32"],
            "record": r["record"],
        }
        | {form: "{1:.2f} ({0:.2f} to {2:.2f})".format(*r["times_as_fast"][form]) if form in r["times_as_fast"] else ""
           for form in ("float32, quick", "float32, quick, views", "bfloat16", "bfloat16, quick")}
        for _, r in frame("training-speed").iterrows()
    ]  # fmt: skip
    return listed(rows, {
        "a step of": "{network}{mark}", "instructions": "{instructions}", "plain, images/s": "{plain:.0f}",
        "quick": "{float32, quick}", "quick, views": "{float32, quick, views}", "bfloat16": "{bfloat16}",
        "bfloat16, quick": "{bfloat16, quick}",
    })  # fmt: skip
