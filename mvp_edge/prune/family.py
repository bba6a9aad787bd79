"""The index of models of several sizes for one task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from mvp_edge.config import PruneConfig
from mvp_edge.core.progress import Stopwatch
from mvp_edge.report import FamilyReport, Report, render_family, write_json
from mvp_edge.report.record import FamilyModel

FILES = ("index.json", "index.html")


def write_index(
    config: PruneConfig, names: Sequence[str], reports: Sequence[Report], directory: Path, clock: Stopwatch
) -> FamilyReport:
    """Write the index of models whose reports lie below a directory, and return it.

    Args:
        config: Settings that they share.
        names: Of their directories.
        reports: Of each.
        directory: Where.
        clock: Of the whole run.
    """
    models = [_model(name, report) for name, report in zip(names, reports, strict=True)]
    index = FamilyReport(
        task=reports[0].task,
        base=reports[0].base,
        models=with_front(models),
        out=str(config.out),
        files=(*FILES, *(f"{m.directory}/" for m in models)),
        seed=config.seed,
        seconds=clock.rounded(),
        environment=reports[0].environment,
        warnings=shared_warnings(models),
    )
    write_json(index, directory / "index.json")
    render_family(index, directory / "index.html")
    return index


def shared_warnings(models: Sequence[FamilyModel]) -> tuple[str, ...]:
    """Return each warning once, with the models that it is about; a warning about all of them has no names."""
    about: dict[str, list[str]] = {}
    for m in models:
        for text in m.warnings:
            about.setdefault(text, []).append(m.directory)
    return tuple(
        text if 1 < len(names) == len(models) else f"{', '.join(names)}: {text}" for text, names in about.items()
    )


def with_front(models: Sequence[FamilyModel]) -> tuple[FamilyModel, ...]:
    """Mark the models that no other beats in both accuracy and cost, as far as accuracies are known."""
    known = [(m, m.top1) for m in models if m.top1 is not None]

    def on_front(model: FamilyModel, top1: float, cost: str) -> bool:
        own = getattr(model, cost)
        return not any(
            other >= top1 and getattr(m, cost) <= own and (other, getattr(m, cost)) != (top1, own) for m, other in known
        )

    return tuple(
        msgspec.structs.replace(
            m, front=tuple(c for c in ("latency_ms", "size_kib") if m.top1 is not None and on_front(m, m.top1, c))
        )
        for m in models
    )


def _model(directory: str, report: Report) -> FamilyModel:
    return FamilyModel(
        directory=directory,
        budget=report.budget or {},
        top1=report.accuracy.top1 if report.estimate is None else report.estimate.top1,
        n=report.accuracy.n,
        latency_ms=report.latency_ms.pruned.median,
        size_kib=round(report.bytes.onnx / 1024, 2),
        macs=report.macs,
        params=report.params,
        keep=report.keep.achieved,
        warnings=report.warnings,
        source=None if report.estimate is None else report.estimate.source,
    )
