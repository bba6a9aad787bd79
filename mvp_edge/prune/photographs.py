"""The main job with images on a zoo of ready-made bodies: a body, what it learns from the photographs, and a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.config import PruneConfig
from mvp_edge.core.device import resolve_device
from mvp_edge.core.environment import environment
from mvp_edge.core.errors import ConfigError, DataError
from mvp_edge.core.progress import Progress, Stopwatch
from mvp_edge.data import DataSource, ImageSet, skipped_warnings
from mvp_edge.data.folder import unlabelled
from mvp_edge.data.images import Size, decode_all
from mvp_edge.data.splits import divided
from mvp_edge.export import verify_onnx
from mvp_edge.export.body import rewritten
from mvp_edge.export.named_head import KNOWN
from mvp_edge.models.macs import nominal_training_flops
from mvp_edge.models.slicing import load_sliced
from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.known import listed_logits
from mvp_edge.prune.accuracy import base_record, base_sample, measured_accuracy, predict_file, unknown_accuracy
from mvp_edge.prune.deliver import rounding
from mvp_edge.prune.expected import Request, expectations
from mvp_edge.prune.gate import Candidate, failed_gate
from mvp_edge.prune.heads import Network, Photographs, State, seen
from mvp_edge.prune.learn import Learned, cut_without, learn
from mvp_edge.prune.learned_file import Head, learned_head_costs, make_file
from mvp_edge.prune.named import Made, report_of
from mvp_edge.prune.network_size import choose_network
from mvp_edge.prune.pictures import open_data, read_pictures
from mvp_edge.prune.precision import compare, make_precision
from mvp_edge.prune.samples import extras_of
from mvp_edge.prune.write import FILES, write_base, write_parts
from mvp_edge.report import Report, render_html, write_json
from mvp_edge.report.record import (
    AccuracyRecord,
    BaseAccuracyRecord,
    CurveRecord,
    InterpolationRecord,
    KnownRecord,
    PhotographsRecord,
    PrecisionsRecord,
    SettingsRecord,
)
from mvp_edge.timing.latency import time_files
from mvp_edge.timing.session import open_session
from mvp_edge.training.early_layers import freeze_early
from mvp_edge.training.frozen_head import NAMES_ALONE, Choice, NamedRows, named_logits
from mvp_edge.zoo.bodies import BodyZoo


@dataclass(frozen=True, eq=False)
class Prepared:
    """What models of several sizes share, and the network of each.

    Attributes:
        zoo: The bodies.
        resolution: What stands for each name.
        source: The photographs, divided.
        none_files: Pictures of none of the classes.
        networks: By the place of the result.
        device: Where they are trained.
    """

    zoo: BodyZoo
    resolution: Resolution
    source: DataSource
    none_files: Sequence[str]
    networks: Mapping[Path, Network]
    device: torch.device


def prepare(
    zoo: BodyZoo, resolution: Resolution, configs: Sequence[PruneConfig], progress: Progress, clock: Stopwatch
) -> Prepared:
    """Open the photographs and choose the network of each model: a budget out of reach is known before any training.

    Raises:
        MvpEdgeError: the data cannot be used, or no network meets a budget.
    """
    first, names = configs[0], resolution.task.names
    device = resolve_device(first.device)
    source = open_data(first)
    none_files = () if first.none is None else unlabelled(Path(first.none))
    with clock.time("size"):
        require_trainable(zoo)
    with clock.time("load"):
        source = divided(source, names, progress, keep=True)
    with clock.time("size"):
        networks = {each.out: choose_network(each, zoo, resolution, source, progress) for each in configs}
    return Prepared(zoo, resolution, source, none_files, networks, device)


def make_photographed(
    prepared: Prepared, config: PruneConfig, directory: Path, progress: Progress, clock: Stopwatch
) -> Report:
    """Let a network learn from the photographs, and write, check and measure the file.

    Raises:
        MvpEdgeError: the photographs cannot be used, or the network cannot be exported.
    """
    zoo, resolution, source, device = prepared.zoo, prepared.resolution, prepared.source, prepared.device
    network = prepared.networks[config.out]
    with clock.time("load"):
        size = (network.body.pixels, network.body.pixels)
        pictures = read_pictures(source, resolution.task.names, size, progress)
        none = read_none(prepared.none_files, size) if prepared.none_files else None
    with clock.time("size"), progress.stage("Unpacking"):
        network = cut_without(network, pictures.train, config.seed)
    if none is not None:
        pictures = replace(pictures, warnings=(*pictures.warnings, *skipped_warnings(none)))
    given = Photographs(zoo, resolution, network, pictures, source.name, None if none is None else none.images)
    learned = learn(given, config, device, progress, clock)
    return deliver(given, learned, config, device, directory, progress, clock)


def require_trainable(zoo: BodyZoo) -> None:
    """Refuse a zoo whose graphs would not follow weights that are trained.

    Raises:
        ConfigError: the export has rewritten weights of its networks that would be trained.
    """
    smallest = Network.of(zoo, zoo.bodies[-1])
    network, _ = smallest.in_torch(zoo)
    freeze_early(network)
    if changed := rewritten(zoo.graph(smallest.body, smallest.weights), network):
        raise ConfigError(
            f"{zoo.base} cannot learn from images as it is: its export rewrites weights that would be trained "
            f"({changed[0]} is the first); leave --data out, or make a zoo of it with: "
            f"mvp-edge zoo build my-zoo --base {zoo.base} --data DIR"
        )


def read_none(files: Sequence[str], size: Size) -> ImageSet:
    """Return pictures of none of the classes; those that cannot be read are left out.

    Raises:
        DataError: none of them can be read.
    """
    read = decode_all(files, [0] * len(files), size)
    if not len(read.images):
        path, reason = read.failures[0]
        raise DataError(f"no picture of --none can be read, such as {path} ({reason}); give others")
    skipped = tuple(path for path, _ in read.failures)
    return ImageSet(read.images, read.labels, (), skipped, read.files, read.origins)


def deliver(
    given: Photographs, learned: Learned, config: PruneConfig, device: torch.device, directory: Path,
    progress: Progress, clock: Stopwatch,
) -> Report:  # fmt: skip
    """Write the network, check and measure the file, and report it.

    Raises:
        ExportError: the file disagrees with the network, or cannot be written.
    """
    file, zoo, test = directory / FILES[0], given.zoo, given.test
    near = learned.nearness if config.unknown else None
    known = (None, None) if near is None else (near.means, near.threshold)
    head = Head(given.resolution.task.names, learned.rows, *known, learned.temperature)
    with clock.time("export"), progress.stage("Writing"):
        state = make_file(file, zoo, given.body, head, learned.state, config)
        weights = {k: v.numpy() for k, v in state.items()}
        names, kept = given.resolution.task.names, given.network.kept
        write_parts(directory, zoo, given.body, kept, names, learned.rows, weights)
        parity = verify_onnx(
            file, in_torch(given, learned, state), given.base.input_size, given.base.mean, given.base.std
        )
    with TemporaryDirectory() as scratch:
        whole = write_base(zoo, given.body, zoo.weights(given.body), Path(scratch) / "base.onnx")

        def stand_in(other: Mapping[str, Tensor]) -> Path:
            file = Path(scratch) / FILES[0]
            make_file(file, zoo, given.body, head, dict(other), config)
            return file

        with clock.time("evaluate"), progress.stage("Evaluating"):
            logits = None if test is None else predict_file(file, test)
            score, base_score, warnings = evaluated(whole, given, learned, logits, config.seed)
        with clock.time("quantise"), progress.stage("Trying other precisions"):
            made = make_precision(file, config.precision, given.train.images, config.seed)
        with clock.time("measure"), progress.stage("Measuring"):
            others = [made.path] if isinstance(made, Candidate) else []
            base_timing, *other_timings, timing = time_files([whole, *others, file])
        with clock.time("quantise"), progress.stage("Comparing precisions"):
            precisions = compare(
                file, config.precision, made, [timing, *other_timings], learned.unseen, test, stand_in, config.seed
            )  # fmt: skip
        costs = learned_head_costs(zoo.features(given.body), learned.rows, 0 if near is None else len(near.means))
        expected = expectations(zoo, given.resolution)
        own = next(e for b, e in expected if b.id == given.body.id)
        stated = Made(given.body, own, file, None, costs, parity, [base_timing, timing], whole.stat().st_size)
        report = report_of(Request(zoo, given.resolution, None, expected), stated, config, clock)
    nominal = nominal_training_flops(given.body.macs, 1.0, learned.trained, learned.fit.batch_size)
    steps = learned.interpolation
    report = msgspec.structs.replace(
        report,
        method=method_in_words(given.network, learned),
        origin="photographs",
        accuracy=score,
        base_accuracy=base_score,
        estimate=None,
        known=known_record(learned, config),
        photographs=photographs_record(given, learned),
        precisions=PrecisionsRecord(requested=config.precision, files=precisions),
        sizes=(),
        interpolation=None if steps is None else InterpolationRecord.from_json(steps.to_json()),
        nominal_training_tflops=round(nominal / 1e12, 4),
        files=(*FILES, *(p.file for p in precisions[1:] if p.kept)),
        data=given.source,
        pictures=given.pictures.record,
        data_sha256=given.train.sha256,
        data_held_out=0,
        settings=SettingsRecord(vote=config.vote, fit=learned.fit),
        environment=environment(device),
        seconds=clock.rounded(),
        warnings=(
            *given.pictures.warnings, *report.warnings, *filter(None, [given.network.note]), *learned.warnings,
            *rounding(parity), *warnings, *failed_gate(precisions), *no_known(learned, config),
        ),
    )  # fmt: skip
    write_json(report, directory / "report.json")
    render_html(report, {}, extras_of(file, given.pictures, logits, config), directory / "report.html")
    return report


def in_torch(given: Photographs, learned: Learned, state: State) -> nn.Module:
    """Return what was learned as a network: images to logits `(N, names)`."""
    return NamedRows(load_sliced(given.zoo.arch, state, sum(learned.rows)), learned.rows).eval()


def evaluated(
    whole: Path, given: Photographs, learned: Learned, logits: Tensor | None, seed: int
) -> tuple[AccuracyRecord, BaseAccuracyRecord | None, list[str]]:
    """Return the accuracy of the delivered file, that of the base, and warnings."""
    if given.test is None or logits is None:
        return unknown_accuracy(), None, []
    before = None
    if learned.before is not None:
        before = named_logits(seen(given.graph(learned.before), given.test.images)[1], learned.rows)
    score, warnings = measured_accuracy(logits, given.test, before, given.source, given.pictures.record.coarse)
    base_score, reasons = base_by_names(whole, given, given.test, logits, seed)
    return score, base_score, [*warnings, *reasons]


def base_by_names(
    whole: Path, given: Photographs, test: ImageSet, logits: Tensor, seed: int
) -> tuple[BaseAccuracyRecord | None, list[str]]:
    """Return how often the base at its own pixels is right by names alone, on some test photographs.

    Args:
        whole: The base as an ONNX file.
        given: The names.
        test: The test photographs.
        logits: Of the delivered file for all test photographs.
        seed: Seed of the choice of photographs.

    Returns:
        It, beside the delivered file on the same photographs; or None, with a warning that says why.
    """
    if not given.all_known:
        unknown = ", ".join(repr(n.name) for n in given.resolution.unknown)
        return None, [f"no accuracy of the base to compare with: it does not know {unknown}"]
    if not test.files:
        return None, ["no accuracy of the base to compare with: these data have no files to read at its pixels"]
    some = base_sample(test, seed)
    part = test.subset(some)
    pixels = given.pictures.decode(part.files, part.labels.tolist(), (given.zoo.pixels, given.zoo.pixels), None)
    if len(pixels.images) != len(part):
        return None, ["no accuracy of the base to compare with: test images changed while this ran"]
    session = open_session(whole, torch.get_num_threads())
    found = np.concatenate([session.run(session.feed(p.numpy())) for p in pixels.images.split(32)])
    return base_record(torch.from_numpy(listed_logits(found, given.resolution.groups)), logits[some], part), []


def method_in_words(network: Network, learned: Learned) -> str:
    """Return how a model was made, in the words of a report."""
    kind = learned.kind
    head = "the base's own head" if kind == NAMES_ALONE else "a head fitted to the photographs"
    if kind.prior and kind != NAMES_ALONE:
        head += ", starting from what the base knows of the names"
    how = ", cut to the budget: units that matter to the photographs, projections solved on them"
    cut = "" if network.cut_on is None else how
    trained = ", then its later half trained on them" if learned.changed else ""
    taught = f", taught by {learned.teacher.body}" if learned.teacher else ""
    return f"a ready-made network at {network.body.pixels} pixels{cut}, {head}{trained}{taught}"


def photographs_record(given: Photographs, learned: Learned) -> PhotographsRecord:
    """Return what photographs left out said of names alone, of the head, and of more photographs."""
    choice, steps = learned.choice, learned.interpolation
    rests_on = "names and photographs" if learned.kind.prior and given.any_known else "photographs"
    curve = () if choice is None else choice.curve
    return PhotographsRecord(
        train=len(given.train),
        held_out=0 if choice is None else int((~choice.logits.isnan().any(1)).sum()),
        names_top1=None if choice is None or choice.names_top1 is None else round(choice.names_top1, 2),
        head_top1=None if choice is None else round(choice.top1, 2),
        head="names" if learned.kind == NAMES_ALONE else rests_on,
        decay=learned.kind.decay,
        trained=learned.changed,
        steps_held_out=0 if steps is None else steps.images,
        teacher=None if learned.teacher is None else learned.teacher.body,
        teacher_top1=None if learned.teacher is None else round(learned.teacher.top1, 2),
        curve=tuple(CurveRecord(images=p.images, top1=round(p.top1, 2)) for p in curve),
        advice=advice(choice),
    )  # fmt: skip


def advice(choice: Choice | None) -> str:
    """Return one sentence on whether more photographs would help."""
    if choice is None:
        return "whether more photographs would help is unknown: too few classes have two"
    gain, error = choice.gain
    few, many = choice.curve[-2].images, choice.curve[-1].images
    if few == many:
        return "whether more photographs would help is unknown: there are too few to learn from half of them"
    what = f"from {few} to {many} photographs the head changed by {gain:+.1f} points (standard error {error:.1f})"
    if gain > error and gain > 0:
        return f"more photographs would probably help: {what}"
    return f"more photographs of this kind would probably not help much: {what}"


def known_record(learned: Learned, config: PruneConfig) -> KnownRecord | None:
    """Return what the report tells of the output `known`, if the file has it."""
    near = learned.nearness
    if near is None or not config.unknown:
        return None
    return KnownRecord(
        output=KNOWN, threshold=round(near.threshold, 4), temperature=learned.temperature, kept=round(near.kept, 4),
        photographs=near.photographs, none=near.none, refused=round(near.refused, 4), listed=0, neutral=0, unlisted=0,
    )  # fmt: skip


def no_known(learned: Learned, config: PruneConfig) -> list[str]:
    """Return a warning that the file has no output `known`, if one may be expected."""
    if not config.unknown or learned.nearness is not None:
        return []
    why, advice = "too few photographs could be left out", "add photographs"
    if config.schedule == "fixed" and learned.changed:
        why, advice = "--schedule fixed trains on all photographs", "leave that out"
    told = "" if config.none is None else ", and --none has no effect"
    return [
        f"the file has no output `known`, so that it takes every picture for one of the classes{told}: {why}, to learn "
        f"which pictures show none of them; {advice}"
    ]
