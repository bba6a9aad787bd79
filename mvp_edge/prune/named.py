"""The main job without images on a zoo of ready-made bodies: from nouns to a file that knows them, without torch.

names -> classes of the base -> a body small enough and good enough -> head of these classes -> checked, measured file
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mvp_edge.config import FitConfig, PruneConfig
from mvp_edge.core.environment import host
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.packed import in_full
from mvp_edge.core.progress import Progress, Stopwatch
from mvp_edge.core.words import in_short
from mvp_edge.export.classifier import read_interface
from mvp_edge.export.graph import take_inventory
from mvp_edge.export.named_head import KNOWN
from mvp_edge.names.known import KEPT
from mvp_edge.prune.body_size import PATIENCE_S, ROUNDS, RUNS, best_first, by_names, choose, head_costs
from mvp_edge.prune.expected import UNMEASURED, Expected, Request, expectations
from mvp_edge.prune.gate import Candidate, Close, Compared, Scores, failed_gate, judge_candidate, latency_record
from mvp_edge.prune.limits import limits_of, missed
from mvp_edge.prune.request import prune_command
from mvp_edge.prune.write import FILES, check, open_body, take_rows, write_base, write_model, write_parts
from mvp_edge.report import Extras, Report, render_html, write_json
from mvp_edge.report.figures import enough, upward
from mvp_edge.report.record import (
    AccuracyRecord,
    BodyRecord,
    BytesRecord,
    EstimateRecord,
    InterfaceRecord,
    KeepRecord,
    KnownRecord,
    LatenciesRecord,
    NameRecord,
    PrecisionRecord,
    PrecisionsRecord,
    SettingsRecord,
    SizeRecord,
    TaskRecord,
    VoterRecord,
)
from mvp_edge.timing.latency import Contender, Timing, time_in_turns
from mvp_edge.zoo.bodies import Body, BodyZoo

HALF = 1e-2  # of the largest logit: weights in half precision


def make_named(request: Request, config: PruneConfig, directory: Path, progress: Progress, clock: Stopwatch) -> Report:
    """Choose a body, give it the head of the class list, and write, check and measure the file.

    Raises:
        BudgetError: no body meets the budget.
        ExportError: the file does not compute what the body does, or cannot be written.
    """
    zoo, file = request.zoo, directory / FILES[0]
    with clock.time("size"), progress.stage("Choosing a size"):
        body, expected = choose(request, config, by_names(request, config))
        form = int8_form(zoo, body, config)
    with clock.time("load"), progress.stage("Unpacking"):
        opened = open_body(request, body, config)
    with clock.time("export"), progress.stage("Writing"):
        write_model(file, opened, request, config.input)
        weights = in_full(opened.stored)
        groups = request.resolution.groups
        rows = take_rows(opened.graph, weights, [i for group in groups for i in group])
        write_parts(directory, zoo, body, zoo.kept(body), request.resolution.task.names, [len(g) for g in groups], rows)
    with clock.time("evaluate"), progress.stage("Checking"):
        parity = check(file, opened, request)
    other: Candidate | None = None
    compared: Compared = 0
    if config.precision == "fp16":
        with clock.time("quantise"), progress.stage("Writing half precision"):
            other = Candidate("fp16", directory / "model-fp16.onnx")
            write_model(other.path, opened, request, config.input, "fp16")
            compared = Close(check(other.path, opened, request, HALF))
    elif form is not None:
        with clock.time("quantise"), progress.stage("Writing INT8"):
            other, rounded = Candidate("int8", directory / "model-int8.onnx"), open_body(request, form, config)
            write_model(other.path, rounded, request, config.input, "int8")
            check(other.path, rounded, request)
            scores = expectations(zoo, request.resolution, [form])[0][1].top1
            if expected.top1 is not None and scores is not None:
                compared = Scores(expected.top1, scores, expected.n or len(opened.features.labels))
    with clock.time("measure"), progress.stage("Measuring"), TemporaryDirectory() as scratch:
        dense = write_base(zoo, body, weights, Path(scratch) / "base.onnx")
        files = [dense, file, *([] if other is None else [other.path])]
        timings = time_in_turns([Contender(f) for f in files], ROUNDS, RUNS, budget_s=PATIENCE_S)
        dense_bytes = dense.stat().st_size
    precisions = judge_candidate(other, timings[1:], compared, config.precision)
    head = head_costs(request, opened.features, opened.threshold is not None)
    made = Made(body, expected, file, opened.threshold, head, parity, timings[:2], dense_bytes, precisions)
    report = report_of(request, made, config, clock)
    write_json(report, directory / "report.json")
    render_html(report, {}, Extras((), prune_command(config)), directory / "report.html")
    return report


def int8_form(zoo: BodyZoo, body: Body, config: PruneConfig) -> Body | None:
    """Return the INT8 form of a body that a run delivers or tries; None if none is wanted, or there is none.

    Raises:
        ConfigError: INT8 is requested, and there is none.
    """
    if config.precision not in ("auto", "int8"):
        return None
    form = zoo.int8(body)
    if form is None and config.precision == "int8":
        raise ConfigError(
            f"{body.id} of {zoo.name} has no INT8 form; leave out --precision int8, or add images with --data DIR"
        )
    return form


@dataclass(frozen=True, eq=False)
class Made:
    """A delivered file, multiply-adds and parameters of its head, and what was measured of it."""

    body: Body
    expected: Expected
    file: Path
    threshold: float | None
    head: tuple[int, int]
    parity: float
    timings: Sequence[Timing]
    dense_bytes: int
    precisions: tuple[PrecisionRecord, ...] = ()


def report_of(request: Request, made: Made, config: PruneConfig, clock: Stopwatch) -> Report:
    """Return the report of a delivered file."""
    zoo, body, base, file = request.zoo, made.body, request.zoo.bodies[0], made.file
    resolution, split = request.resolution, request.split
    inventory, interface = take_inventory(file), read_interface(file).to_json()
    pruned = made.timings[1].latency()
    head_macs, head_params = made.head
    base_width = zoo.features(base).basis.shape[1]
    macs, params, classes = body.macs + head_macs, body.params + head_params, len(zoo.classes.classes)
    figures = {"macs": macs, "params": params, "latency_ms": pruned.median_ms, "size_kib": inventory.file_bytes / 1024}
    return Report(
        task=TaskRecord(
            classes=resolution.task.names, synsets=tuple(n.synset for n in resolution.named), id=resolution.task.id
        ),
        base=zoo.base,
        method=f"a ready-made generalist at {body.pixels} pixels, as it is",
        origin="ready-made",
        voters=(
            VoterRecord(
                id=body.id, classes=resolution.task.names, kind="generalist", similarity=1.0, keep=body.keep
            ),
        ),
        keep=KeepRecord(requested=None, achieved=body.keep),
        accuracy=AccuracyRecord(
            top1=None, n=0, interval=None, per_class=dict.fromkeys(resolution.task.names), confusion=(),
            top1_before=None, source=UNMEASURED,
        ),
        base_accuracy=None,
        names=tuple(NameRecord.from_json(n) for n in resolution.to_json()),
        estimate=estimate_of(made.expected),
        known=None if made.threshold is None or split is None else KnownRecord(
            output=KNOWN, threshold=round(made.threshold, 4), temperature=body.temperature, listed=len(split.listed),
            neutral=len(split.neutral), unlisted=len(split.unlisted), kept=KEPT,
        ),
        body=BodyRecord(id=body.id, pixels=body.pixels, base_pixels=zoo.pixels, pictures=_pictures(body.recipe)),
        params=params,
        base_params=base.params + classes * (base_width + 1),
        macs=macs,
        base_macs=base.macs + classes * base_width,
        unprunable_macs=min(zoo.bodies[-1].macs, body.macs),
        bytes=BytesRecord(onnx=inventory.file_bytes, parameters=inventory.parameter_bytes, dense_onnx=made.dense_bytes),
        latency_ms=LatenciesRecord(
            dense=latency_record(made.timings[0]), pruned=latency_record(made.timings[1]),
            threads=pruned.threads, runs=pruned.runs, clock=pruned.clock,
        ),
        budget=limits_of(config.budget, figures),
        precisions=PrecisionsRecord(
            requested=config.precision, files=made.precisions
        ),
        sizes=tuple(sizes(request, made)),
        photographs=None,
        interpolation=None,
        nominal_training_tflops=0.0,
        groups=(),
        operators=inventory.operators,
        largest_rank=inventory.largest_rank,
        parity_max_abs_diff=made.parity,
        sliced_vs_masked_max_abs_diff=0.0,
        out=str(config.out),
        files=(*FILES, *(p.file for p in made.precisions[1:] if p.kept)),
        zoo=zoo.name,
        added_member=None,
        input=config.input,
        interface=InterfaceRecord.from_json({k: v for k, v in interface.items() if k != "classes"}),
        data=None,
        data_sha256=None,
        data_held_out=0,
        seed=config.seed,
        settings=SettingsRecord(vote=config.vote, fit=FitConfig(iterations=0)),
        environment=host(),
        seconds=clock.rounded(),
        warnings=(
            *missed(config.budget, figures, pruned.clock), *unmeasured(request, made, config),
            *failed_gate(made.precisions), *resolution.notes, *(resolution.warnings if config.data is None else ()),
        ),
    )  # fmt: skip


def estimate_of(expected: Expected) -> EstimateRecord | None:
    """Return the record of what is expected of a body, if anything is."""
    if expected.top1 is None or expected.base_top1 is None:
        return None
    return EstimateRecord(
        top1=expected.top1, base_top1=expected.base_top1, n=expected.n, source=expected.source
    )  # fmt: skip


def unmeasured(request: Request, made: Made, config: PruneConfig) -> list[str]:
    """Return what names alone do not tell of a base that was tried on no pictures: its accuracy, and `known`."""
    if config.data is not None:
        return []
    warnings = []
    if made.expected.top1 is None:
        sizes = [(b.pixels, _flag(request, b, made)) for b, _ in request.expected if b is not made.body]
        others = ", ".join(f"{flag} ({pixels} pixels)" for pixels, flag in sizes)
        warnings.append(
            f"the accuracy of {request.zoo.base} at {made.body.pixels} pixels is unknown without pictures: measure it "
            "with mvp-edge eval, or add images with --data DIR" + (f"; other sizes: {others}" if others else "")
        )
    if pairs := alike(request):
        warnings.append(
            f"the base hardly tells apart {in_short(pairs, 3, '; ')}: expect less than on lists of names that differ"
        )
    if config.unknown and made.threshold is None and request.split is not None:
        why = "its threshold needs pictures"
        if made.body.thresholds:
            why = f"its threshold is known for at most {made.body.thresholds[-1][0]} classes of {request.zoo.base}"
        warnings.append(
            "the file has no output `known`, so that it takes every picture for one of the classes: "
            f"{why}; add images with --data DIR"
        )
    if config.unknown and request.split is None:
        warnings.append(
            "the file has no output `known`, so that it takes every picture for one of the classes: all classes of "
            f"{request.zoo.base} are listed, or nearly, so that no others are left to compare with"
        )
    return warnings


def alike(request: Request) -> list[str]:
    """Return pairs of names of which the base confuses a class of one with a class of the other."""
    names, groups = request.resolution.task.names, request.resolution.groups
    name_of = {i: k for k, group in enumerate(groups) for i in group}
    pairs = (sorted((name_of[a], name_of[b])) for a, b in request.zoo.near if a in name_of and b in name_of)
    return [f"{names[one]!r} and {names[other]!r}" for one, other in dict.fromkeys(map(tuple, pairs)) if one != other]


def sizes(request: Request, made: Made) -> list[SizeRecord]:
    """Return this body, and each other that a limit on multiply-adds would deliver, with that limit."""
    if made.expected.top1 is None:
        return []
    records = []
    for body, expected in reversed(request.expected):
        limit = upward(_macs(request, body, made))[0]
        within = [pair for pair in request.expected if _macs(request, pair[0], made) <= limit]
        if body is made.body or best_first(within)[0][0] is body:
            flag = _flag(request, body, made)
            records.append(
                SizeRecord(member=body.id, flag=flag, keep=body.keep, achieved=body.keep, top1=expected.top1 or 0.0)
            )
    return records


def _macs(request: Request, body: Body, made: Made) -> int:
    return body.macs + head_costs(request, request.zoo.features(body), made.threshold is not None)[0]


def _flag(request: Request, body: Body, made: Made) -> str:
    return enough("macs", _macs(request, body, made))


def _pictures(recipe: Any) -> int:
    """Return how many pictures, crops of one counted each time, the weights were trained on beyond the base's own."""
    start = recipe.get("start") or {}
    return int(recipe.get("crops_seen", 0)) + (_pictures(start) if start else 0)
