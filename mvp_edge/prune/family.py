"""Models of several sizes for one task: one ranking, many budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from mvp_edge.config import Budget, PruneConfig, check
from mvp_edge.core.output import result_directory
from mvp_edge.core.progress import Progress, SilentProgress, Stopwatch
from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.tasks import Task
from mvp_edge.prune.named import make_named, read_request
from mvp_edge.prune.request import check_place, requested_with_photographs
from mvp_edge.report import FamilyReport, Report, render_family, write_json
from mvp_edge.report.record import FamilyModel
from mvp_edge.zoo.bodies import BodyZoo

FILES = ("index.json", "index.html")


def compress_family(
    config: PruneConfig,
    budgets: Sequence[Budget],
    progress: Progress | None = None,
    began: float | None = None,
    task: Task | None = None,
) -> FamilyReport:
    """Make a model for each budget, each in a directory named after it, and an index that compares them.

    Args:
        config: Settings of the run; its own budget is ignored.
        budgets: At least one; no two alike.
        progress: Progress reporter.
        began: When the job began, by `time.perf_counter`, if that was earlier.
        task: Result of `check_request`, if it was called; the class list is not read again then.

    Returns:
        The report of the family.

    Raises:
        MvpEdgeError: an input cannot be used, a budget cannot be met, or the family is to be added to a zoo; nothing is
            written then.
    """
    from mvp_edge.prune.run import make, prepare, size  # torch, which names alone do without

    progress, clock = progress or SilentProgress(), Stopwatch(began)
    configs = _configs(config, budgets)
    prepared = prepare(configs[0], progress, clock, task)
    with clock.time("size"):  # all of them first: a budget out of reach is known before anything is trained
        sizings = {each.out.name: size(prepared, each, progress) for each in configs}
    return _family(
        config, configs,
        lambda each, place: make(prepared, sizings[each.out.name], each, place, progress, Stopwatch()).report, clock,
    )  # fmt: skip


def named_family(
    config: PruneConfig,
    zoo: BodyZoo,
    budgets: Sequence[Budget],
    progress: Progress | None = None,
    began: float | None = None,
    resolution: Resolution | None = None,
) -> FamilyReport:
    """Make a model for each budget from names alone; arguments otherwise as for `compress_family` and `compress_names`.

    Raises:
        MvpEdgeError: as `compress_family`.
    """
    progress, clock = progress or SilentProgress(), Stopwatch(began)
    configs = _configs(config, budgets)
    with clock.time("load"):
        request = read_request(configs[0], zoo, resolution)
    return _family(config, configs, lambda each, place: make_named(request, each, place, progress, Stopwatch()), clock)


def photographed_family(
    config: PruneConfig,
    zoo: BodyZoo,
    budgets: Sequence[Budget],
    progress: Progress | None = None,
    began: float | None = None,
    resolution: Resolution | None = None,
) -> FamilyReport:
    """Make a model of a ready-made body for each budget from photographs; arguments as for `compress_photographs`.

    Raises:
        MvpEdgeError: as `compress_family`.
    """
    from mvp_edge.prune.photographs import make_photographed

    reporter, clock = progress or SilentProgress(), Stopwatch(began)
    configs = _configs(config, budgets)
    known = resolution or requested_with_photographs(config, zoo)
    return _family(
        config, configs, lambda each, place: make_photographed(each, zoo, known, place, reporter, Stopwatch()), clock
    )


def _configs(config: PruneConfig, budgets: Sequence[Budget]) -> list[PruneConfig]:
    """Return the settings of each model.

    Raises:
        ConfigError: a budget is given twice or none is, or the family is to be added to a zoo, or cannot be written.
    """
    labels = [b.label for b in budgets]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    problems = [f"budget {label} is given twice" for label in twice] or ([] if budgets else ["no budget is given"])
    if config.add_to_zoo and labels:
        one = config.out / labels[0]
        problems.append(f"a family is not added to a zoo; add one of its models with: mvp-edge zoo add {one}")
    check(problems)
    check_place(config)
    return [replace(config, budget=b, out=config.out / b.label) for b in budgets]


def _family(
    config: PruneConfig,
    configs: Sequence[PruneConfig],
    deliver: Callable[[PruneConfig, Path], Report],
    clock: Stopwatch,
) -> FamilyReport:
    """Deliver each model into a directory of its own, and write the index."""
    with result_directory(config.out, lambda: check_place(config)) as directory:
        reports = []
        for each in configs:
            place = directory / each.out.name
            place.mkdir()
            reports.append(deliver(each, place))
        models = [_model(each.out.name, report) for each, report in zip(configs, reports, strict=True)]
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
    )
