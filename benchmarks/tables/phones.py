"""Tables of phones: what other runtimes compute, and what instructions tell of latency."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.tables import markdown
from mvp_edge.zoo.bodies import open_bodies


def runtimes() -> str:
    """How near other runtimes come to ONNX Runtime: the last record of each network."""
    last = {r["config"]["network"]: r for r in records.read("runtimes") if "network" in r["config"]}
    return "\n\n".join(map(_runtimes_of, last.values()))


def _runtimes_of(r: dict[str, Any]) -> str:
    versions, onnxruntime = r["config"]["versions"], r["environment"]["packages"]["onnxruntime"]
    against = f"{r['config']['network']}: largest difference from ONNX Runtime {onnxruntime}{records.dirty_mark([r])}"
    head = [against, *(f"{name} {version or ''}".strip() for name, version in versions.items()), "largest logit"]
    return markdown(head, (
        [file, *(agreement(found[name]) for name in versions), f"{found['largest_logit']:.1f}"]
        for file, found in r["result"].items()
    ))  # fmt: skip


def agreement(found: dict[str, Any]) -> str:
    """Return how near one runtime comes for one file, as a cell."""
    if "failed" in found:
        return f"failed: {found['failed']}"
    verdict = "" if found["agrees"] else ", above 0.001"
    return f"{found['max_abs_diff']:.1e}{verdict}; same top-1 on {found['same_top1']} of {found['images']} images"


def phones() -> str:
    """Files for phone runtimes and emulated processors: bytes, largest difference from ONNX Runtime, same top-1.

    The accuracy is that of the bundled zoo's bodies and forms on labelled pictures, on lists of five.
    """
    latest = {r["config"]["network"]: r for r in records.read("phones")}
    zoo, rows = open_bodies("imagenet-lite0"), []
    assert zoo is not None
    accuracy = {b.id: f"{dict(b.curve)[5]:.1f}" for b in (*zoo.bodies, *zoo.forms)}
    for network, record in latest.items():
        versions = {k: v for k, v in record["config"]["versions"].items() if v}
        named = {
            "LiteRT": f"LiteRT {versions.get('ai-edge-litert')}", "ncnn": f"ncnn {versions.get('ncnn')}",
            "Core ML": f"Core ML, by coremltools {versions.get('coremltools')}",
        }  # fmt: skip
        for precision, own in record["result"].items():
            title = f"{network}, {precision}"
            first = _agreement(own["beside"]) if "beside" in own else ""
            top1 = accuracy.get(network if precision == "fp32" else f"{network}-{precision}", "")
            rows.append((title, f"ONNX Runtime {versions['onnxruntime']}", _kib(own["bytes"]), first, top1))
            rows += [(title, named[t], _kib(v.get("bytes")), _agreement(v), "") for t, v in own["targets"].items()]
            rows += [
                (title, f"ONNX Runtime {v.get('onnxruntime', '')} on an emulated {machine}", "", _agreement(v), "")
                for machine, v in own["emulated"].items()
            ]
    return markdown(("network", "runtime", "KiB", "largest difference of a logit; same top-1", "top-1, %"), rows)


def _kib(size: int | None) -> str:
    return "" if size is None else f"{size / 1024:,.0f}"


def _agreement(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    if "max_abs_diff" not in found:
        return "specification read again; not run"
    return f"{found['max_abs_diff']:.1e}; {found['same_top1']} of {found['images']}"


def instructions() -> str:
    """Instructions per inference: of networks with published latencies, and of delivered files with an estimate."""
    record = records.read("instructions")[-1]
    known, body = record["result"]["known"], []
    ratios: dict[str, list[float]] = {}
    for row in known:
        others = [r for r in known if r["phone"] == row["phone"] and r["family"] != row["family"]] or [
            r for r in known if r["phone"] == row["phone"] and r["network"] != row["network"]
        ]
        estimate = row["instructions"] * ms_per_instruction(others)
        ratios.setdefault(row["phone"], []).append(estimate / row["ms"])
        body.append([
            f"{row['network']}, {row['pixels']} pixels", f"{row['instructions'] / 1e6:.0f} M", row["phone"],
            f"{row['ms']:.1f}", f"{estimate:.1f}", f"{estimate / row['ms']:.2f}x",
        ])  # fmt: skip
    mark = records.dirty_mark([record])
    head = ["network", f"instructions{mark}", "phone", "published, ms", "estimate, ms", "off by"]
    factors = {phone: np.exp(np.abs(np.log(found))) for phone, found in ratios.items()}
    off = "; ".join(f"{p}: {np.median(f):.2f} in the middle, {f.max():.2f} at worst" for p, f in factors.items())
    rows = [
        [f"{r['network']}, {r['precision']}", f"{r['instructions'] / 1e6:.0f} M"]
        + [_estimated(r, [k for k in known if k["phone"] == phone], worst.max()) for phone, worst in factors.items()]
        for r in record["result"]["delivered"]
    ]
    return (
        f"{markdown(head, body)}\n\nFactors by which estimates are off: {off}.\n\n"
        f"{markdown(['delivered file', 'instructions', *(f'{phone}, estimated ms' for phone in factors)], rows)}"
    )


def _estimated(file: dict[str, Any], known: list[dict[str, Any]], worst: float) -> str:
    """Return an estimate and its range, where networks of the same kind are known: of its base, or of several."""
    families = {k["family"] for k in known}
    if file["precision"] != "fp32" or (len(families) == 1 and not file["network"].startswith("lite0-")):
        return ""
    ms = file["instructions"] * ms_per_instruction(known)
    return f"{ms:.1f} ({ms / worst:.1f} to {ms * worst:.1f})"


def ms_per_instruction(known: list[dict[str, Any]]) -> float:
    """Return the geometric mean over networks with published latencies."""
    return float(np.exp(np.mean([np.log(r["ms"] / r["instructions"]) for r in known])))
