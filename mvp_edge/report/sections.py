"""From a report to the contents of each section of its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from textwrap import shorten
from typing import Any

from mvp_edge.core.words import in_short
from mvp_edge.names.tasks import canonical
from mvp_edge.report import figures, files
from mvp_edge.report.record import (
    AccuracyRecord,
    GroupRecord,
    KnownRecord,
    LatenciesRecord,
    LimitRecord,
    NameRecord,
    Origin,
    Report,
)

TITLE_NAMES = 8
CHIPS = 12
BASE_CLASSES, MEANING_LETTERS = 8, 140  # that are shown of what a name stands for
# A bigger confusion matrix is drawn without its numbers; the worst mistakes are then listed.
READABLE_CLASSES = 12
# Column headings that do not fit side by side stand upright.
UPRIGHT_CLASSES, UPRIGHT_LETTERS = 6, 7
SIMILARITIES = {"leep": "LEEP", "wordnet": "WordNet"}
STORIES: dict[Origin, tuple[str, str]] = {
    "vote": (
        "Who voted",
        "Pruned models of the nearest earlier tasks. They chose the units to keep and gave the initial weights.",
    ),
    "member": (
        "Whose units",
        "This member knows all of these classes and voted alone: its units are kept first, and its weights are the "
        "initial ones.",
    ),
    "ready-made": (
        "Which member it is",
        "This member knows all of these classes and is delivered as it is, with its outputs for these classes.",
    ),
    "photographs": (
        "Which network it is",
        "This network knows all classes of the base; photographs gave it a head for these classes.",
    ),
    "base": ("Nearest members", "Every unit is kept, so no vote was needed."),
}
VOTING = {"method", "neighbours", "similarity", "vote", "temperature"}  # without effect where one member is alone
BRIEF_S = 0.005  # a stage that is shorter shows as 0.00 s
STAGES = (
    *("start", "load", "rank", "size", "vote", "slice", "head", "teach", "fine_tune", "known"),
    *("export", "evaluate", "quantise", "measure"),
)


def sections(report: Report, kept: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return the values of the template for a report and its kept units by group; what is unknown is empty or None."""
    classes = report.task.classes
    title, about = STORIES[report.origin]
    return {
        "names": in_short(classes, TITLE_NAMES),
        "base": report.base,
        "body": report.body,
        "trained_on": f"{report.photographs.train:,}" if report.photographs else "",
        "stands": [_name(n) for n in report.names],
        "known": _known(report.known),
        "method": report.method,
        "keep": {
            "achieved": figures.percent(100 * report.keep.achieved),
            "part": report.keep.achieved < 1,
            "requested": _requested(report.keep.requested, report.budget),
        },
        "total": figures.duration(report.seconds["total"]),
        "cards": [_accuracy_card(report), *_cost_cards(report)],
        "warnings": report.warnings,
        "usage": files.usage(report),
        "story": {"title": title, "about": about},
        "voters": [] if report.body else _voters(report),
        "similarity": SIMILARITIES.get(report.settings.vote.similarity, ""),
        "groups": _groups(report.groups, kept),
        "accuracy": _accuracy(report.accuracy, classes),
        "sizes": _sizes(report),
        "latency": _latency(report.latency_ms),
        "precisions": files.precisions(report),
        "pictures": _pictures(report),
        "contents": files.contents(report),
        "stages": _stages(report.seconds),
        "facts": _facts(report),
        "settings": _flat(_effective(report)),
        "environment": _flat(report.environment),
        "files": report.files,
    }


def _requested(keep: float | None, budget: Mapping[str, LimitRecord] | None) -> str:
    """Return the ratio that was requested, or each limit with what was achieved, in words."""
    if not budget:
        return figures.percent(100 * (keep or 0))
    return ", ".join(
        f"at most {figures.limited(name, v.limit)}, measured {figures.limited(name, v.achieved)}"
        for name, v in budget.items()
    )


def _accuracy_card(report: Report) -> dict[str, Any]:
    accuracy, expected = report.accuracy, report.estimate
    if expected is not None and accuracy.top1 is None:
        return {
            "title": "Top-1, expected",
            "value": f"\N{ALMOST EQUAL TO} {figures.percent(expected.top1)}",
            "text": f"the base {figures.percent(expected.base_top1)}",
            "note": f"{expected.source}; chance {figures.percent(100 / len(report.task.classes))}",
            "length": figures.length(expected.top1, 100),
        }
    if accuracy.top1 is None or accuracy.interval is None:
        unknown = {"value": figures.UNKNOWN, "text": "not measured", "note": "see the warnings", "length": None}
        return {"title": "Top-1 accuracy", **unknown}
    low, high = accuracy.interval
    balanced = (
        "" if _even(accuracy) else f"balanced accuracy (mean of the classes) {figures.percent(accuracy.balanced)}; "
    )
    return {
        "title": "Top-1 accuracy",
        "value": figures.percent(accuracy.top1),
        "text": f"{accuracy.n:,} real test images",
        "note": f"{balanced}{_compared(report)}{accuracy.source}; 95 % interval {low:.1f} to {high:.1f} %, "
        f"chance {figures.percent(100 / len(report.task.classes))}",
        "length": figures.length(accuracy.top1, 100),
    }


def _name(name: NameRecord) -> dict[str, Any]:
    shown = name.classes if len(name.classes) <= BASE_CLASSES + 1 else name.classes[:BASE_CLASSES]
    meaning = shorten(name.meaning, MEANING_LETTERS, placeholder=" ...")
    return {
        "name": name.name, "synset": name.synset, "meaning": meaning, "classes": shown,
        "more": len(name.classes) - len(shown),
    }  # fmt: skip


def _known(known: KnownRecord | None) -> dict[str, Any] | None:
    if known is None:
        return None
    text = {
        "threshold": f"{known.threshold:.2f}".replace("-", figures.MINUS),
        "kept": figures.percent(100 * known.kept),
        "refused": figures.percent(100 * known.refused),
    }
    return known.to_json() | text


def _even(accuracy: AccuracyRecord) -> bool:
    """Return whether all classes have equally many test images, so that balanced accuracy is top-1."""
    return accuracy.balanced is None or len({sum(row) for row in accuracy.confusion}) < 2


def _cost_cards(report: Report) -> list[dict[str, Any]]:
    onnx, dense_onnx = report.bytes.onnx, report.bytes.dense_onnx
    latency = report.latency_ms
    dense, pruned = latency.dense.median, latency.pruned.median
    return [
        {
            "title": "Model file",
            "value": figures.storage(onnx),
            "text": figures.gain(dense_onnx, onnx, "smaller", "larger"),
            "note": f"{figures.quantity(report.params)} parameters; "
            f"the base has {figures.quantity(report.base_params)}",
            "length": figures.length(onnx, dense_onnx),
        },
        {
            "title": "Multiply-adds",
            "value": figures.quantity(report.macs),
            "text": figures.gain(report.base_macs, report.macs, "fewer", "more"),
            "note": f"MACs per image, measured; the base needs {figures.quantity(report.base_macs)}, "
            f"and the smallest {'body' if report.body else 'possible network'} "
            f"{figures.quantity(report.unprunable_macs)}",
            "length": figures.length(report.macs, report.base_macs),
        },
        {
            "title": "Latency",
            "value": f"{figures.significant(pruned)} ms",
            "text": figures.gain(dense, pruned, "faster", "slower"),
            "note": f"median, {figures.threads(latency.threads)}; the base takes {figures.significant(dense)} ms",
            "length": figures.length(pruned, dense),
        },
    ]


def _compared(report: Report) -> str:
    """Return the accuracy before fine-tuning and that of the whole base model, in words, as far as they are known."""
    before, base = report.accuracy.top1_before, report.base_accuracy
    text = "" if before is None else f"before fine-tuning {figures.percent(before)}; "
    if base is None:
        return text
    scored, limited = f"the base scores {figures.percent(base.top1)}", ", restricted to these classes; "
    if base.n == report.accuracy.n:
        return f"{text}{scored}{limited}"
    return f"{text}on {base.n:,} of them {scored} and this model {figures.percent(base.model_top1)}{limited}"


def _voters(report: Report) -> list[dict[str, Any]]:
    wanted = {canonical(name) for name in report.task.classes}
    lengths = figures.similarity_lengths([v.similarity for v in report.voters], report.settings.vote.similarity)
    voters = []
    for voter, length in zip(report.voters, lengths, strict=True):
        chips = sorted(((name, canonical(name) in wanted) for name in voter.classes), key=lambda c: not c[1])
        voters.append(
            {
                "id": voter.id,
                "chips": chips[:CHIPS],
                "more": max(0, len(chips) - CHIPS),
                "shared": sum(shared for _, shared in chips),
                "kind": voter.kind,
                "text": f"{voter.similarity:.3f}".replace("-", figures.MINUS),
                "length": length,
            }
        )
    return voters


def _groups(groups: Sequence[GroupRecord], kept: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    return [
        {
            "name": group.name,
            "width": group.width,
            "kept": group.kept,
            "share": figures.percent(100 * group.kept / group.width),
            "length": figures.length(group.kept, group.width),
            "stripes": figures.stripes(kept.get(group.name, [])),
        }
        for group in groups
    ]


def _accuracy(accuracy: AccuracyRecord, classes: Sequence[str]) -> dict[str, Any] | None:
    if accuracy.top1 is None:
        return None
    confusion = accuracy.confusion
    readable = len(confusion) <= READABLE_CLASSES
    return {
        "bars": [
            figures.Bar(name, "no image" if v is None else figures.percent(v), figures.length(v or 0, 100))
            for name, v in accuracy.per_class.items()
        ],
        "chance": figures.length(1, len(classes)),
        "chance_text": figures.percent(100 / len(classes)),
        "names": classes,
        "cells": figures.heat_map(confusion, classes) if confusion else [],
        "readable": readable,
        "upright": len(classes) > UPRIGHT_CLASSES or max(map(len, classes)) > UPRIGHT_LETTERS,
        "mistakes": figures.worst_confusions(confusion, classes, 3 if readable else 12),
    }


def _sizes(report: Report) -> list[dict[str, Any]]:
    """Return a row for each ready-made size; none if there is no other than this model's."""
    here = [v.id for v in report.voters]
    if all(size.member in here for size in report.sizes):
        return []
    return [
        {
            "flag": size.flag,
            "here": size.member in here,
            "share": size.member if report.body else figures.percent(100 * size.achieved),
            "text": figures.percent(size.top1),
            "length": figures.length(size.top1, 100),
        }
        for size in report.sizes
    ]


def _latency(latency: LatenciesRecord) -> dict[str, Any]:
    bars = figures.latency_bars({"Base": latency.dense, "This model": latency.pruned})
    about = f"{figures.threads(latency.threads)}, {latency.clock} time, {latency.runs:,} calls each"
    return {"bars": bars, "about": about}


def _pictures(report: Report) -> dict[str, Any] | None:
    record = report.pictures
    if record is None:
        return None
    rows = [(f"used for {split}", count) for split, count in record.used.items()] + list(record.aside.items())
    return {
        "given": f"{record.given:,}",
        "rows": [(what, f"{count:,}", figures.length(count, record.given)) for what, count in rows],
        "copies": f"{record.copies:,}",
        "conflicts": record.two_classes,
        "coarse": "" if record.coarse is None else figures.percent(record.coarse),
    }


def _stages(seconds: Mapping[str, float]) -> list[figures.Bar]:
    order = [s for s in STAGES if seconds.get(s, 0) >= BRIEF_S]
    full = max((seconds[s] for s in order), default=0)
    return [
        figures.Bar(s.replace("_", "-"), figures.duration(seconds[s]), figures.length(seconds[s], full)) for s in order
    ]


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [
        ("Seed", str(report.seed)),
        ("Base", report.base),
        ("Method", report.method),
        ("Data", report.data or "none: from the names of the classes"),
        ("Zoo", report.zoo),
        ("Input", report.input),
        ("Largest error of ONNX", f"{report.parity_max_abs_diff:.1e} at most".replace("-", figures.MINUS)),
    ]
    if (shown := report.photographs) is not None and shown.head_top1 is not None:
        names = "" if shown.names_top1 is None else f"; names alone {figures.percent(shown.names_top1)}"
        facts.append(("Head on held-out images", f"{figures.percent(shown.head_top1)} of {shown.held_out}{names}"))
        curve = ", ".join(f"{figures.percent(p.top1)} with {p.images}" for p in shown.curve)
        if shown.teacher is not None and shown.teacher_top1 is not None:
            right = figures.percent(shown.teacher_top1)
            facts.append(("Teacher", f"{shown.teacher}: head {right} of {shown.held_out}"))
        facts += [("Learning curve", curve), ("More images", shown.advice)]
    if (chosen := report.interpolation) is not None:
        facts.append(("Kept of fine-tuning", f"{100 * chosen.weight:.0f} %, judged by {chosen.images} held-out images"))
    if nominal := report.nominal_training_tflops:
        facts.append(("Nominal training cost", f"{figures.significant(nominal)} TFLOPs"))
    return facts


def _effective(report: Report) -> dict[str, Any]:
    """Return the settings that had an effect on the model."""
    idle = set() if report.origin == "vote" else set(VOTING)
    idle |= {"keep", "voters", "channel_multiple"} if report.body else set()
    idle |= {"channel_multiple"} if report.data is None else set()
    idle |= {"keep"} if report.budget else set()
    settings = {"vote": {k: v for k, v in asdict(report.settings.vote).items() if k not in idle}}
    return settings if report.settings.fit.iterations == 0 else settings | {"fit": asdict(report.settings.fit)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return settings as rows; what is nested gets dotted names."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            rows.append((prefix + key, f"{value:g}"))
        else:
            rows.append((prefix + key, "none" if value is None else str(value)))
    return rows
