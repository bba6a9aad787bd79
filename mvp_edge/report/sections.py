"""From a report to what each section of its page shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mvp_edge.names.tasks import canonical
from mvp_edge.report import figures, files

TITLE_NAMES = 8
CHIPS = 12
# A bigger confusion matrix is drawn without its numbers; the worst mistakes are then listed.
READABLE_CLASSES = 12
# Column headings that do not fit side by side stand upright.
UPRIGHT_CLASSES, UPRIGHT_LETTERS = 6, 7
SIMILARITIES = {"leep": "LEEP", "wordnet": "WordNet"}
STORIES = {
    "vote": (
        "Who voted",
        "Pruned models of the nearest earlier tasks: they chose what to keep, and gave the first weights.",
    ),
    "member": (
        "Whose units",
        "One member knows all of these classes and voted alone: its units come before all others, and its weights are "
        "the first ones.",
    ),
    "ready-made": (
        "Which member it is",
        "This member knows all of these classes and is delivered as it is: its units, its weights, and its outputs for "
        "these classes.",
    ),
    "base": ("Who was asked", "Members of the zoo; as every unit is kept, there was nothing for them to choose."),
}
VOTING = {"method", "neighbours", "similarity", "vote", "temperature"}  # no say where one member is alone
BRIEF_S = 0.005  # a stage that is shorter shows as 0.00 s
STAGES = (
    *("start", "load", "rank", "size", "vote", "slice", "fine_tune"),
    *("export", "evaluate", "quantise", "measure"),
)


def sections(report: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows of a report and its keep plan; what was not measured is empty or None."""
    classes = report["task"]["classes"]
    names = ", ".join(classes[:TITLE_NAMES]) + (
        f" and {len(classes) - TITLE_NAMES} more" if len(classes) > TITLE_NAMES else ""
    )
    return {
        "names": names,
        "base": report.get("base", ""),
        "method": report.get("method", ""),
        "keep": {
            "achieved": figures.percent(100 * report["keep"]["achieved"]),
            "requested": _asked(report["keep"]["requested"], report.get("budget")),
        },
        "total": figures.duration(report["seconds"]["total"]),
        "cards": _cards(report),
        "warnings": report.get("warnings", []),
        "usage": files.usage(report),
        "story": dict(zip(("title", "about"), STORIES[report.get("origin", "vote")], strict=True)),
        "voters": _voters(report, classes),
        "similarity": SIMILARITIES.get(report.get("settings", {}).get("vote", {}).get("similarity"), ""),
        "groups": _groups(report.get("groups", []), plan),
        "accuracy": _accuracy(report.get("accuracy"), classes),
        "sizes": _sizes(report),
        "latency": _latency(report.get("latency_ms")),
        "precisions": files.precisions(report),
        "contents": files.contents(report),
        "stages": _stages(report["seconds"]),
        "facts": _facts(report),
        "settings": _flat(_decisive(report)),
        "environment": _flat(report.get("environment", {})),
        "files": _files(report.get("files", [])),
    }


def _asked(keep: float | None, budget: Mapping[str, Any] | None) -> str:
    """Return what was asked for in words: a ratio, or each limit with what was achieved."""
    if not budget:
        return figures.percent(100 * (keep or 0))
    return ", ".join(
        f"at most {figures.limited(name, v['limit'])}, measured {figures.limited(name, v['achieved'])}"
        for name, v in budget.items()
    )


def _cards(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    accuracy, latency = report.get("accuracy"), report.get("latency_ms")
    base_params, classes = report.get("base_params", 0), len(report["task"]["classes"])
    onnx = report["bytes"]["onnx"]
    # The base's weights are four bytes each, unless it was exported and weighed as well.
    base_bytes = report["bytes"].get("dense_onnx") or 4 * base_params
    cards: list[dict[str, Any]] = []
    if accuracy and accuracy["top1"] is not None:
        low, high = figures.interval(accuracy["top1"], accuracy["n"])
        cards.append(
            {
                "title": "Top-1 accuracy",
                "value": figures.percent(accuracy["top1"]),
                "text": f"{accuracy['n']:,} real test images",
                "note": f"{_beside(accuracy, report.get('base_accuracy'))}{accuracy['source']}; 95 % interval "
                f"{low:.1f} to {high:.1f} %, chance {figures.percent(100 / classes)}",
                "length": figures.length(accuracy["top1"], 100),
            }
        )
    else:
        cards.append(_missing("Top-1 accuracy"))
    cards.append(
        {
            "title": "Model file",
            "value": figures.storage(onnx),
            "text": figures.gain(base_bytes, onnx, "smaller", "larger"),
            "note": f"{figures.quantity(report['params'])} parameters; the base has {figures.quantity(base_params)}",
            "length": figures.length(onnx, base_bytes),
        }
    )
    cards.append(
        {
            "title": "Multiply-adds",
            "value": figures.quantity(report["macs"]),
            "text": figures.gain(report["base_macs"], report["macs"], "fewer", "more"),
            "note": (
                f"MACs an image, measured; the base needs {figures.quantity(report['base_macs'])}, "
                f"and the smallest possible network {figures.quantity(report['unprunable_macs'])}"
            ),
            "length": figures.length(report["macs"], report["base_macs"]),
        }
    )
    if latency and latency.get("pruned") and latency.get("dense"):
        dense, pruned = latency["dense"]["median"], latency["pruned"]["median"]
        threads = figures.threads(latency["threads"])
        cards.append(
            {
                "title": "Latency",
                "value": f"{figures.significant(pruned)} ms",
                "text": figures.gain(dense, pruned, "faster", "slower"),
                "note": f"median, {threads}; the base takes {figures.significant(dense)} ms",
                "length": figures.length(pruned, dense),
            }
        )
    else:
        cards.append(_missing("Latency"))
    return cards


def _beside(accuracy: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    """Return what it was before fine-tuning and what the whole base model scores, in words, as far as that is known."""
    before = accuracy["top1_before"]
    told = "" if before is None else f"before fine-tuning {figures.percent(before)}; "
    if base is None:
        return told
    scored, asked = f"the base scores {figures.percent(base['top1'])}", ", asked for these classes only; "
    if base["n"] == accuracy["n"]:
        return f"{told}{scored}{asked}"
    return f"{told}on {base['n']:,} of them {scored} and this model {figures.percent(base['model_top1'])}{asked}"


def _missing(title: str) -> dict[str, Any]:
    missing = {"value": figures.UNKNOWN, "text": "not measured", "note": "see the warnings", "length": None}
    return {"title": title, **missing}


def _voters(report: Mapping[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    neighbours = report.get("neighbours", [])
    wanted = {canonical(name) for name in classes}
    measure = report["settings"]["vote"]["similarity"] if neighbours else "wordnet"
    lengths = figures.similarity_lengths([neighbour["similarity"] for neighbour in neighbours], measure)
    voters = []
    for neighbour, length in zip(neighbours, lengths, strict=True):
        chips = sorted(((name, canonical(name) in wanted) for name in neighbour["classes"]), key=lambda c: not c[1])
        voters.append(
            {
                "id": neighbour["id"],
                "chips": chips[:CHIPS],
                "more": max(0, len(chips) - CHIPS),
                "shared": sum(shared for _, shared in chips),
                "kind": neighbour.get("kind", "specialist"),
                "text": f"{neighbour['similarity']:.3f}".replace("-", figures.MINUS),
                "length": length,
            }
        )
    return voters


def _groups(groups: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    units = {group["name"]: group["kept"] for group in plan.get("groups", [])}
    return [
        {
            "name": group["name"],
            "width": group["width"],
            "kept": group["kept"],
            "share": figures.percent(100 * group["kept"] / group["width"]),
            "length": figures.length(group["kept"], group["width"]),
            "stripes": figures.stripes(units.get(group["name"], [])),
        }
        for group in groups
    ]


def _accuracy(accuracy: Mapping[str, Any] | None, classes: Sequence[str]) -> dict[str, Any] | None:
    if not accuracy or accuracy["top1"] is None:
        return None
    per_class, confusion = accuracy.get("per_class") or {}, accuracy.get("confusion") or []
    readable = len(confusion) <= READABLE_CLASSES
    return {
        "bars": [
            figures.Bar(name, "no image" if v is None else figures.percent(v), figures.length(v or 0, 100))
            for name, v in per_class.items()
        ],
        "chance": figures.length(1, len(classes)),
        "chance_text": figures.percent(100 / len(classes)),
        "names": classes,
        "cells": figures.heat_map(confusion, classes) if confusion else [],
        "readable": readable,
        "upright": len(classes) > UPRIGHT_CLASSES or max(map(len, classes)) > UPRIGHT_LETTERS,
        "mistakes": figures.worst_confusions(confusion, classes, 3 if readable else 12),
    }


def _sizes(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each ready-made size; none if there is no other than this model's."""
    sizes = report.get("sizes", [])
    here = [n["id"] for n in report.get("neighbours", [])]
    if all(size["member"] in here for size in sizes):
        return []
    return [
        {
            "flag": f"--keep {size['keep']:g}",
            "here": size["member"] in here,
            "share": figures.percent(100 * size["achieved"]),
            "text": figures.percent(size["top1"]),
            "length": figures.length(size["top1"], 100),
        }
        for size in sizes
    ]


def _latency(latency: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not latency:
        return None
    bars = figures.latency_bars(latency, {"dense": "Base, dense", "pruned": "This model"})
    runs = f", {latency['runs']:,} calls each" if latency.get("runs") else ""
    clock = f", {latency['clock']} time" if latency.get("clock") else ""
    return {"bars": bars, "about": f"{figures.threads(latency['threads'])}{clock}{runs}"} if bars else None


def _stages(seconds: Mapping[str, float]) -> list[figures.Bar]:
    order = [s for s in STAGES if s in seconds] + [s for s in seconds if s not in (*STAGES, "total")]
    order = [s for s in order if seconds[s] >= BRIEF_S]
    full = max((seconds[s] for s in order), default=0)
    total = seconds["total"]
    return [
        figures.Bar(
            s.replace("_", "-"),
            figures.duration(seconds[s]),
            figures.length(seconds[s], full),
            note=figures.percent(figures.length(seconds[s], total)),
        )
        for s in order
    ]


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("Seed", str(report["seed"])), ("Base", str(report.get("base", ""))), ("Method", report.get("method", ""))]
    if "data" in report:
        facts.append(("Data", report["data"] or "none: from the names of the classes"))
    facts += [(name.title(), str(report[name])) for name in ("zoo", "input") if name in report]
    if (parity := report.get("parity_max_abs_diff")) is not None:
        facts.append(("ONNX against eager", f"{parity:.1e} at most".replace("-", figures.MINUS)))
    if mix := report.get("mix"):
        facts.append(("Kept of fine-tuning", f"{100 * mix['share']:.0f} %, chosen on {mix['images']} images left out"))
    if nominal := report.get("nominal_training_tflops"):
        facts.append(("Nominal training cost", f"{figures.significant(nominal)} TFLOPs"))
    return facts


def _decisive(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that had a say in the model."""
    settings = dict(report.get("settings", {}))
    if settings.get("fit", {}).get("iterations") == 0:
        del settings["fit"]
    idle = set() if report.get("origin", "vote") == "vote" else set(VOTING)
    idle |= {"channel_multiple"} if report.get("data", "") is None else set()
    idle |= {"keep"} if report.get("budget") else set()
    if "vote" in settings:
        settings["vote"] = {k: v for k, v in settings["vote"].items() if k not in idle}
    return settings


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return settings as rows; what is nested gets dotted names."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            rows.append((prefix + key, ", ".join(map(str, value))))
        elif isinstance(value, float):
            rows.append((prefix + key, f"{value:g}"))
        else:
            rows.append((prefix + key, "none" if value is None else str(value)))
    return rows


def _files(found: Any) -> list[str]:
    """Return file names, whether the report lists them or maps each to its path."""
    return [str(v) for v in (found.values() if isinstance(found, Mapping) else found)]
