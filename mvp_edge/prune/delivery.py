"""The result of a run: write the model, have it evaluated and measured, and tell it honestly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from mvp_edge.config import InputFormat, PruneConfig
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.device import on_host
from mvp_edge.core.environment import environment
from mvp_edge.core.progress import Progress, Stopwatch
from mvp_edge.export import TOLERANCE, export_onnx, take_inventory, verify_onnx
from mvp_edge.export.classifier import read_interface
from mvp_edge.models.architectures import head_of
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.prune.command import prune_command
from mvp_edge.prune.costs import measure, slowed, spent
from mvp_edge.prune.evaluation import evaluate, gallery
from mvp_edge.prune.known import keep_to_ask_for
from mvp_edge.prune.origin import method_in_words, origin_of
from mvp_edge.prune.outcome import Outcome
from mvp_edge.prune.variants import Made, judge_variant, make_variant, notes
from mvp_edge.report import Extras, render_html, write_json
from mvp_edge.voting.neighbours import Neighbour

FILES = ("model.onnx", "labels.txt", "plan.json", "weights.safetensors", "report.json", "report.html")


def deliver(
    directory: Path, outcome: Outcome, config: PruneConfig, clock: Stopwatch, progress: Progress
) -> dict[str, Any]:
    """Write everything but the report itself; return the report.

    Raises:
        ExportError: the model cannot be exported, or the file does not agree with the network.
    """
    with TemporaryDirectory() as scratch:
        return _deliver(directory, Path(scratch) / "base.onnx", outcome, config, clock, progress)


def _deliver(
    directory: Path, whole: Path, outcome: Outcome, config: PruneConfig, clock: Stopwatch, progress: Progress
) -> dict[str, Any]:
    """Deliver as `deliver` says, and write the base model to `whole` to compare with."""
    file = directory / FILES[0]
    with clock.time("export"), progress.stage("Exporting"):
        parity = _write(directory, file, outcome, config)
        _export_base(whole, outcome.prunable, config.input)
    with clock.time("evaluate"), progress.stage("Evaluating"):
        found = evaluate(file, whole, outcome, config.seed)
    with clock.time("quantise"), progress.stage("Trying other precisions"):
        made = make_variant(file, config.precision, outcome.calibration, outcome.test, config.seed)
    with clock.time("measure"), progress.stage("Measuring"):
        costs, timings = measure(file, [made.path] if isinstance(made, Made) else [], whole, outcome, config)
    with clock.time("quantise"):
        variants = judge_variant(file, config.precision, made, timings, outcome.test, threads=torch.get_num_threads())
    budget, overspent = spent(config, outcome.plan.achieved, costs)
    inventory = take_inventory(file)
    return {
        **_decisions(outcome, config),
        **costs,
        "accuracy": found.accuracy,
        "base_accuracy": found.base_accuracy,
        "budget": budget,
        "precisions": {
            "asked": config.precision,
            "files": [v.to_json() for v in variants],
        },
        "operators": inventory.operators,
        "largest_rank": inventory.largest_rank,
        "parity_max_abs_diff": parity,
        "files": [*FILES, *(v.file for v in variants[1:] if v.kept)],
        "interface": _interface(file),
        "environment": environment(outcome.device),
        "warnings": [
            *outcome.warnings, *_rounding(parity), *found.warnings, *notes(variants), *slowed(costs), *overspent
        ],
    }  # fmt: skip


def write_report(directory: Path, report: dict[str, Any], outcome: Outcome, config: PruneConfig) -> None:
    """Write `report.json` and `report.html`.

    Raises:
        ExportError: they cannot be written.
    """
    write_json(report, directory / "report.json")
    samples = () if outcome.test is None else gallery(directory / FILES[0], outcome.test)
    extras = Extras(samples, prune_command(config))
    render_html(report, outcome.plan.to_json(), extras, directory / "report.html")


def member_recipe(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the model of a report was made and from which images; with its task that names a member of a zoo."""
    settings = report["settings"]
    images = {"data": report["data"], "data_sha256": report.get("data_sha256")}  # earlier versions did not tell it
    return {"method": settings["vote"]["method"], **settings, "seed": report["seed"], **images}


def _write(directory: Path, file: Path, outcome: Outcome, config: PruneConfig) -> float:
    """Write the model, its labels, its plan and its weights; return how far the file's logits are off the network's."""
    base, names = outcome.prunable.base, outcome.task.names
    asked = config.budget.label if config.budget else str(config.vote.keep)
    provenance = {"base": base.name, "zoo": outcome.zoo, "keep": asked, "seed": str(config.seed)}
    _export(outcome.model, outcome.prunable, file, names, provenance, config.input)
    parity = verify_onnx(file, outcome.model, base.input_size, base.mean, base.std)
    plan = {"base": base.to_json(), "requested": dict(outcome.requested), **outcome.plan.to_json()}
    write_atomically(directory / "labels.txt", "".join(f"{n}\n" for n in names).encode())
    write_atomically(directory / "plan.json", json.dumps(plan).encode())
    write_atomically(directory / "weights.safetensors", save(outcome.prunable.state_of(outcome.model)))
    return parity


def _rounding(parity: float) -> list[str]:
    """Return a warning where file and network differ by more than networks usually do."""
    if parity <= TOLERANCE:
        return []
    return [
        f"the file and the network differ by up to {parity:.1e}, more than the usual {TOLERANCE:.0e}, but as "
        "float32's own rounding of this network does; do not rely on smaller differences between logits"
    ]


def _decisions(outcome: Outcome, config: PruneConfig) -> dict[str, Any]:
    """Return what the report tells of what was asked for and how the network came about, before it is measured."""
    task, plan, tuned = outcome.task, outcome.plan, outcome.tuned
    origin = origin_of(plan, outcome.neighbours, tuned)
    return {
        "task": {"classes": list(task.names), "synsets": [c.synset for c in task.classes], "id": task.id},
        "base": outcome.prunable.base.name,
        "method": method_in_words(origin, config.vote.method),
        "origin": origin,
        "neighbours": [_describe(n) for n in outcome.neighbours],
        "keep": {"requested": None if config.budget else config.vote.keep, "achieved": round(plan.achieved, 4)},
        "sizes": [s.to_json() for s in outcome.sizes],
        "mix": None if tuned.mix is None else tuned.mix.to_json(),
        "groups": [
            {"name": g.name, "width": g.width, "kept": len(g.kept), "requested": outcome.requested[g.name]}
            for g in plan.groups
        ],
        "out": str(config.out),
        "zoo": outcome.zoo,
        "input": config.input,
        "data": outcome.source,
        "data_sha256": outcome.digest,
        "seed": config.seed,
        "settings": {
            "vote": {**asdict(config.vote), "similarity": outcome.similarity},
            "fit": tuned.fit.to_recipe(),
            **({"budget": config.budget.given} if config.budget else {}),
        },
    }


def _export(
    model: nn.Module,
    prunable: PrunableModel,
    path: Path,
    labels: Sequence[str],
    metadata: dict[str, str],
    kind: InputFormat,
) -> None:
    base = prunable.base
    export_onnx(
        model, path, input_size=base.input_size, mean=base.mean, std=base.std, labels=labels, metadata=metadata,
        input_format=kind,
    )  # fmt: skip


def _export_base(path: Path, prunable: PrunableModel, kind: InputFormat) -> None:
    """Write the whole base model, on the CPU from then on."""
    whole = on_host(prunable.model)
    outputs = head_of(whole).out_features
    _export(whole, prunable, path, prunable.base.classes or [str(i) for i in range(outputs)], {}, kind)


def _interface(file: Path) -> dict[str, Any]:
    """Return what the delivered file takes and gives, read from the file itself; its classes are those of the task."""
    return {k: v for k, v in read_interface(file).to_json().items() if k != "classes"}


def _describe(neighbour: Neighbour) -> dict[str, Any]:
    info = neighbour.info
    return {
        "id": info.id,
        "classes": list(info.task.names),
        "similarity": round(neighbour.similarity, 4),
        "kind": info.kind,
        "keep": keep_to_ask_for(info),
    }
