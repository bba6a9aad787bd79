"""The main job without images on a zoo of ready-made bodies: from nouns to a file that knows them, without torch.

names -> classes of the base -> a body small enough and good enough -> head of these classes -> checked, measured file
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import msgspec
import numpy as np
import onnx

from mvp_edge.config import Budget, FitConfig, InputFormat, PruneConfig
from mvp_edge.core.environment import host
from mvp_edge.core.errors import BudgetError, ConfigError, ExportError
from mvp_edge.core.output import result_directory
from mvp_edge.core.packed import Stored, in_full
from mvp_edge.core.progress import Progress, SilentProgress, Stopwatch
from mvp_edge.export.classifier import read_interface
from mvp_edge.export.compact import halve, store_compactly
from mvp_edge.export.graph import take_inventory
from mvp_edge.export.named_head import KNOWN, LowRank, attach_head, stored_head
from mvp_edge.export.static_int8 import quantise
from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.known import Split, listed_logits, split_classes
from mvp_edge.prune.gate import Figures, Scores, failed_gate, judge
from mvp_edge.prune.request import check_place, prune_command, requested_names
from mvp_edge.prune.write import FILES, take_rows, write_base, write_file, write_parts
from mvp_edge.report import Extras, Report, render_html, write_json
from mvp_edge.report.record import (
    AccuracyRecord,
    BodyRecord,
    BytesRecord,
    EstimateRecord,
    InterfaceRecord,
    KeepRecord,
    KnownRecord,
    LatenciesRecord,
    LatencyRecord,
    LimitRecord,
    NameRecord,
    PrecisionRecord,
    PrecisionsRecord,
    SettingsRecord,
    SizeRecord,
    TaskRecord,
    VoterRecord,
)
from mvp_edge.timing.latency import Contender, Timing, time_in_turns
from mvp_edge.timing.session import open_session
from mvp_edge.zoo.bodies import Body, BodyZoo, Features

LEAST_PICTURES = 10  # of a name, for its accuracy to be told from its own
KEPT = 0.95  # of pictures of listed classes, by the threshold of `known`
TOLERANCE = 1e-3  # of a logit: float32 sums in another order
HALF = 1e-2  # of the largest logit: weights in half precision
UNMEASURED = "not measured: no pictures of yours were given"
POOLED = "estimate: mean over random lists of as many names, {pictures}"
OWN = "estimate: {n} pictures of these classes, {pictures}"
ROUNDS, RUNS, PATIENCE_S = 6, 5, 1.0  # of a measurement: the base takes tens of milliseconds a call
FILE_BYTES = 20 * 1024  # of a file beside its parameters
UNPACKING_BYTES = 60 * 1024  # of what unpacks weights that are stored in few bytes


@dataclass(frozen=True)
class Expected:
    """Percent right that is expected of a body, and of the base at its own pixels, and what that rests on.

    The percentages are None where no pictures tell.
    """

    top1: float | None
    base_top1: float | None
    source: str
    n: int

    @property
    def drop(self) -> float | None:
        """Points below the base at its own pixels."""
        return None if self.top1 is None or self.base_top1 is None else self.base_top1 - self.top1


@dataclass(frozen=True, eq=False)
class Request:
    """A class list resolved to a zoo's classes, with what each body is expected to do, the largest first."""

    zoo: BodyZoo
    resolution: Resolution
    split: Split | None
    expected: Sequence[tuple[Body, Expected]]


@dataclass(frozen=True, eq=False)
class Opened:
    """A body as it is delivered.

    Attributes:
        body: The body, or a form of one.
        stored: Its tensors as they are stored.
        graph: It as an ONNX model with logits of all classes, in the arithmetic that it is delivered in.
        features: What it sees in labelled pictures.
        threshold: Of `known`; None if there is to be no `known`.
    """

    body: Body
    stored: dict[str, Stored]
    graph: onnx.ModelProto
    features: Features
    threshold: float | None


def compress_names(
    config: PruneConfig,
    zoo: BodyZoo,
    progress: Progress | None = None,
    began: float | None = None,
    resolution: Resolution | None = None,
) -> Report:
    """Make a compact model from names alone and write it with its report.

    Args:
        config: Settings of the run, without data.
        zoo: The zoo that it names.
        progress: Progress reporter.
        began: When the job began, by `time.perf_counter`, if that was earlier.
        resolution: Result of `requested_names`, if it was called; the class list is not read again then.

    Returns:
        The report.

    Raises:
        MvpEdgeError: an input cannot be used; nothing is written then.
    """
    progress, clock = progress or SilentProgress(), Stopwatch(began)
    check_place(config)
    with clock.time("load"):
        request = read_request(config, zoo, resolution)
    with result_directory(config.out, lambda: check_place(config)) as directory:
        return make_named(request, config, directory, progress, clock)


def read_request(config: PruneConfig, zoo: BodyZoo, resolution: Resolution | None = None) -> Request:
    """Resolve the class list, unless that is given, and find what each body is expected to do.

    Raises:
        MvpEdgeError: the class list cannot be used, or a file of the zoo is damaged.
    """
    resolution = resolution or requested_names(config, zoo)
    try:
        split = split_classes(resolution, zoo.near)
    except ValueError:  # every class of the base is listed, or nearly
        split = None
    return Request(zoo, resolution, split, expectations(zoo, resolution))


def expectations(zoo: BodyZoo, resolution: Resolution, forms: Sequence[Body] = ()) -> list[tuple[Body, Expected]]:
    """Return for each body how often it is right: on pictures of these very classes where the zoo has some of each.

    With `forms` it is for these.

    Raises:
        ZooError: a body's stored features are damaged.
    """
    whole = zoo.bodies[0]
    first, groups = zoo.features(whole), resolution.groups
    index = pictures_of(first, groups)
    if index is None:
        found = {b.id: b.expected_top1(len(groups)) for b in (whole, *(forms or zoo.bodies))}
        if None in found.values():
            return [(b, Expected(None, None, UNMEASURED, 0)) for b in forms or zoo.bodies]
        source = POOLED.format(pictures=zoo.pictures)
        rounded = {name: round(v or 0.0, 1) for name, v in found.items()}
        return [(b, Expected(rounded[b.id], rounded[whole.id], source, 0)) for b in forms or zoo.bodies]
    source, base = OWN.format(n=len(index), pictures=zoo.pictures), right(first, groups, index)
    scores = {b.id: base if b is whole else right(zoo.features(b), groups, index) for b in forms or zoo.bodies}
    return [(b, Expected(scores[b.id], base, source, len(index))) for b in forms or zoo.bodies]


def pictures_of(features: Features, groups: Sequence[Sequence[int]]) -> np.ndarray | None:
    """Return which stored pictures show a listed class; None unless each name has `LEAST_PICTURES`."""
    found = [np.flatnonzero(np.isin(features.labels, group)) for group in groups]
    return np.concatenate(found) if min(map(len, found)) >= LEAST_PICTURES else None


def right(features: Features, groups: Sequence[Sequence[int]], index: np.ndarray) -> float:
    """Return the percent of stored pictures that a body names rightly; each name counts the same."""
    guessed = listed_logits(features.logits[index], groups).argmax(1)
    scores = [float((guessed[np.isin(features.labels[index], group)] == i).mean()) for i, group in enumerate(groups)]
    return round(100 * float(np.mean(scores)), 1)


def make_named(request: Request, config: PruneConfig, directory: Path, progress: Progress, clock: Stopwatch) -> Report:
    """Choose a body, give it the head of the class list, and write, check and measure the file.

    Raises:
        BudgetError: no body meets the budget.
        ExportError: the file does not compute what the body does, or cannot be written.
    """
    zoo, file = request.zoo, directory / FILES[0]
    with clock.time("size"), progress.stage("Choosing a size"):
        body, expected = choose(request, config, directory)
        form = int8_form(zoo, body, config)
    with clock.time("load"), progress.stage("Unpacking"):
        opened = open_body(request, body, config)
    with clock.time("export"), progress.stage("Writing"):
        write_model(file, opened, request, config.input)
        weights = in_full(opened.stored)
        groups = request.resolution.groups
        rows = take_rows(opened.graph, weights, [i for group in groups for i in group])
        write_parts(directory, zoo, body, request.resolution.task.names, [len(g) for g in groups], rows)
    with clock.time("evaluate"), progress.stage("Checking"):
        parity = check(file, opened, request)
    others: dict[Literal["int8", "fp16"], Path] = {}
    if config.precision == "fp16":
        with clock.time("quantise"), progress.stage("Writing half precision"):
            others["fp16"] = directory / "model-fp16.onnx"
            write_model(others["fp16"], opened, request, config.input, "fp16")
            check(others["fp16"], opened, request, HALF)
    elif form is not None:
        with clock.time("quantise"), progress.stage("Writing INT8"):
            others["int8"], rounded = directory / "model-int8.onnx", open_body(request, form, config)
            write_model(others["int8"], rounded, request, config.input, "int8")
            check(others["int8"], rounded, request)
    with clock.time("measure"), progress.stage("Measuring"), TemporaryDirectory() as scratch:
        dense = write_base(zoo, body, weights, Path(scratch) / "base.onnx")
        files = [dense, file, *others.values()]
        timings = time_in_turns([Contender(f) for f in files], ROUNDS, RUNS, budget_s=PATIENCE_S)
        dense_bytes = dense.stat().st_size
    scores = expected.top1 if form is None else expectations(zoo, request.resolution, [form])[0][1].top1
    compared = None
    if expected.top1 is not None and scores is not None:
        compared = Scores(expected.top1, scores, expected.n or len(opened.features.labels))
    precisions = judged(file, others, compared, timings[1:], config)
    head = head_costs(request, opened.threshold is not None)
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


def open_body(request: Request, body: Body, config: PruneConfig) -> Opened:
    """Read a body from its zoo.

    Raises:
        ZooError: one of its files is missing or damaged.
    """
    zoo, stored = request.zoo, request.zoo.stored(body)
    graph = zoo.graph(body, in_full(stored))
    if body.arithmetic == "int8":
        graph = quantise(graph, *zoo.rounding(body))
    return Opened(body, stored, graph, zoo.features(body), threshold_of(request, body, config))


def judged(
    file: Path,
    others: Mapping[Literal["int8", "fp16"], Path],
    scores: Scores | None,
    timings: Sequence[Timing],
    config: PruneConfig,
) -> tuple[PrecisionRecord, ...]:
    """Return the records of `model.onnx` and of the files beside it; one that does not pass the gate is deleted."""
    every: list[tuple[Literal["fp32", "int8", "fp16"], Path]] = [("fp32", file), *others.items()]
    full, *rest = [
        PrecisionRecord(
            precision=precision, file=f.name, kept=True, passed=True, bytes=f.stat().st_size,
            latency_ms=LatencyRecord.from_json(t.latency().to_json()), time_ratio=1.0,
        )
        for (precision, f), t in zip(every, timings, strict=True)
    ]  # fmt: skip
    records = [full]
    for record, timing in zip(rest, timings[1:], strict=True):
        paired = timing.ratio_to(timings[0])
        ratio = paired.median if paired else timing.latency().median_ms / timings[0].latency().median_ms
        figures = [Figures(r.bytes or 0, r.latency_ms.median) for r in (full, record) if r.latency_ms]
        verdict = judge(scores, figures[0], figures[1], ratio)
        kept = verdict.passed or config.precision != "auto"
        if not kept:
            (file.parent / record.file).unlink()
        records.append(
            msgspec.structs.replace(
                record, kept=kept, passed=verdict.passed, reasons=verdict.reasons, time_ratio=round(ratio, 4)
            )
        )
    return tuple(records)


def choose(request: Request, config: PruneConfig, scratch: Path) -> tuple[Body, Expected]:
    """Return the body that a run delivers.

    Under a budget it is the one of which most is expected among those within all limits; else the one with the fewest
    multiply-adds of which no more than `max_drop` points less is expected than of the base at its own pixels. Where
    nothing is known of accuracy, it is the one with the most multiply-adds.

    Raises:
        BudgetError: none is within the limits; the message tells how near the smallest comes.
    """
    if config.budget is None:
        good = [pair for pair in request.expected if (drop := pair[1].drop) is not None and drop <= config.max_drop]
        return good[-1] if good else request.expected[0]
    limits, offered = config.budget.given, list(request.expected)
    if "size_kib" in limits and config.data is None:
        small = [f for f in request.zoo.forms if f.arithmetic == "fp32"]
        offered += expectations(request.zoo, request.resolution, small) if small else []
    costs = [cost_of(request, body, config, scratch) for body, _ in offered]
    within = [
        pair for pair, cost in zip(offered, costs, strict=True)
        if all(cost[name] <= most for name, most in limits.items())
    ]  # fmt: skip
    if not within:
        least = costs[-1]
        missed = [
            f"{name} is {least[name]:,.4g}, and {most:,.4g} is allowed"
            for name, most in limits.items()
            if least[name] > most
        ]
        raise BudgetError(
            f"no body of {request.zoo.name} meets the budget; of the smallest, {offered[-1][0].id}, "
            f"{'; '.join(missed)}. Allow a little more than that"
        )
    if any(e.top1 is None for _, e in within):
        return within[0]
    return max(within, key=lambda pair: (pair[1].top1 or 0.0, -pair[0].macs))


def cost_of(request: Request, body: Body, config: PruneConfig, scratch: Path) -> dict[str, float]:
    """Return what a body costs with the head of the class list, by the names of limits that are asked for."""
    assert config.budget is not None
    macs, params = head_costs(request, threshold_of(request, body, config) is not None)
    found: dict[str, float] = {"macs": body.macs + macs, "params": body.params + params}
    stored = 4 * found["params"]
    if body.weight_bytes:
        stored = body.weight_bytes + params + 16 * len(request.zoo.classes.classes) + UNPACKING_BYTES
    found["size_kib"] = (stored + FILE_BYTES) / 1024
    if config.budget.latency_ms is not None:
        file = scratch / "trial.onnx"
        write_model(file, open_body(request, body, config), request, config.input)
        (timing,) = time_in_turns([Contender(file)], ROUNDS, RUNS, budget_s=PATIENCE_S)
        found["latency_ms"] = timing.latency().median_ms
        file.unlink()
    return found


def head_costs(request: Request, known: bool) -> tuple[int, int]:
    """Return multiply-adds and parameters of the head: rows of listed classes, and the few dimensions of the others."""
    features = request.zoo.features(request.expected[0][0])
    few, width = features.basis.shape
    listed = sum(max(1, len(group)) for group in request.resolution.groups)  # an unknown name has a row, too
    macs, params = listed * width, listed * (width + 1)
    if known and request.split is not None:
        others = len(request.split.unlisted)
        macs += few * width + few * others + listed + others
        params += few * width + (few + 1) * others
    return macs, params


def threshold_of(request: Request, body: Body, config: PruneConfig) -> float | None:
    """Return the threshold of `known` for so many listed classes of the base; None if there is to be no `known`."""
    return None if request.split is None or not config.unknown else body.threshold(len(request.split.listed))


def write_model(
    file: Path,
    opened: Opened,
    request: Request,
    kind: InputFormat,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
) -> None:
    """Write a body with the head of the class list, its weights as they are stored, or in half precision.

    Raises:
        ExportError: the file cannot be written.
    """
    split = request.split or Split(request.resolution.groups, tuple(sorted(sum(request.resolution.groups, ()))), (), ())
    body, features = opened.body, opened.features
    model = attach_head(
        opened.graph, split, request.resolution.task.names, known_threshold=opened.threshold,
        temperature=body.temperature, unlisted=LowRank(features.basis, features.rows, features.bias),
    )  # fmt: skip
    if precision == "fp16":
        halve(model)
    else:
        store_compactly(model, opened.stored | stored_rows(opened, split))
    write_file(model, file, request.zoo, body, kind, {} if precision == "fp32" else {"precision": precision})


def stored_rows(opened: Opened, split: Split) -> dict[str, Stored]:
    """Return the stored forms of the head's weights, by their names in the file."""
    last = next((n for n in reversed(opened.graph.graph.node) if n.op_type == "Gemm"), None)
    if last is None or last.input[1] not in opened.stored or not opened.features.stored:
        return {}
    return stored_head(split, opened.stored[last.input[1]], *(opened.features.stored[k] for k in ("basis", "rows")))


def check(file: Path, opened: Opened, request: Request, relative: float = 0.0) -> float:
    """Compare the file with the body's logits of all classes on random pictures; return the largest difference.

    Raises:
        ExportError: they differ by more than float32's rounding and more than that share of the largest logit.
    """
    import onnxruntime as ort

    session, body, known = open_session(file), opened.body, opened.threshold is not None
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, body.pixels, body.pixels), np.uint8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    whole = ort.InferenceSession(opened.graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits = np.asarray(whole.run(None, {"image": pixels.astype(np.float32) / 255})[0])
    found = session.runner.run(None, {session.input_name: session.feed(pixels)})
    worst = float(np.abs(found[0] - listed_logits(logits, request.resolution.groups)).max())
    allowed = max(TOLERANCE, relative * float(np.abs(logits).max()))
    if not worst <= allowed or (known and (found[1].shape != (len(pixels),) or not np.isfinite(found[1]).all())):
        raise ExportError(f"{file} and {body.id} differ by {worst:.2g}; do not use the file, and report this as a bug")
    return worst


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
    dense, pruned = (t.latency() for t in made.timings)
    head_macs, head_params = made.head
    base_width = zoo.features(base).basis.shape[1]
    macs, params, classes = body.macs + head_macs, body.params + head_params, len(zoo.classes.classes)
    figures = {"macs": macs, "params": params, "latency_ms": pruned.median_ms, "size_kib": inventory.file_bytes / 1024}
    budget = _limits(config.budget, figures)
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
        unprunable_macs=zoo.bodies[-1].macs,
        bytes=BytesRecord(onnx=inventory.file_bytes, parameters=inventory.parameter_bytes, dense_onnx=made.dense_bytes),
        latency_ms=LatenciesRecord(
            dense=LatencyRecord.from_json(dense.to_json()), pruned=LatencyRecord.from_json(pruned.to_json()),
            threads=pruned.threads, runs=pruned.runs, clock=pruned.clock,
        ),
        budget=budget,
        precisions=PrecisionsRecord(
            requested=config.precision, files=made.precisions
        ),
        sizes=tuple(_size(b, e.top1, head_macs) for b, e in reversed(request.expected) if e.top1 is not None),
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
        seed=config.seed,
        settings=SettingsRecord(vote=config.vote, fit=FitConfig(iterations=0)),
        environment=host(),
        seconds=clock.rounded(),
        warnings=(
            *resolution.notes, *resolution.warnings, *unmeasured(request, made, config), *_missed(budget, figures),
            *failed_gate(made.precisions),
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
    if made.expected.top1 is not None or config.data is not None:
        return []
    sizes = [(b.pixels, _flag(b, made.head[0])) for b, _ in request.expected if b is not made.body]
    others = ", ".join(f"{flag} ({pixels} pixels)" for pixels, flag in sizes)
    warnings = [
        f"no pictures tell how accurate {request.zoo.base} is at {made.body.pixels} pixels: measure it with mvp-edge "
        "eval, or add images with --data DIR" + (f"; other sizes: {others}" if others else "")
    ]
    if config.unknown and made.threshold is None:
        warnings.append(
            "the file has no output `known`, so that it takes every picture for one of the classes: its threshold "
            "needs pictures; add images with --data DIR"
        )
    return warnings


def _size(body: Body, top1: float, head_macs: int) -> SizeRecord:
    flag = _flag(body, head_macs)
    return SizeRecord(member=body.id, flag=flag, keep=body.keep, achieved=body.keep, top1=top1)


def _flag(body: Body, head_macs: int) -> str:
    return f"--max-macs {-(-(body.macs + head_macs) // 10**6)}M"


def _limits(budget: Budget | None, figures: dict[str, float]) -> dict[str, LimitRecord] | None:
    if budget is None:
        return None
    return {k: LimitRecord(limit=v, achieved=round(figures[k], 4)) for k, v in budget.given.items()}


def _missed(budget: dict[str, LimitRecord] | None, figures: dict[str, float]) -> list[str]:
    return [
        f"{name} is {figures[name]:g}: the budget of {v.limit:g} is missed by "
        f"{100 * (figures[name] / v.limit - 1):.2g} %"
        for name, v in (budget or {}).items()
        if figures[name] > v.limit
    ]


def _pictures(recipe: Any) -> int:
    """Return how many pictures, crops of one counted each time, the weights were trained on beyond the base's own."""
    start = recipe.get("start") or {}
    return int(recipe.get("crops_seen", 0)) + (_pictures(start) if start else 0)
