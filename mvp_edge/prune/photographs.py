"""The main job with images on a zoo of ready-made bodies: names, then a head for the photographs, then steps.

names -> a body -> features of the photographs -> head, chosen on photographs left out -> steps, if these gain -> a file
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from mvp_edge.config import FitConfig, PruneConfig
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.device import on_device, on_host, resolve_device
from mvp_edge.core.environment import environment
from mvp_edge.core.output import result_directory
from mvp_edge.core.progress import Progress, SilentProgress, Stage, Stopwatch
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet, open_source
from mvp_edge.data.images import decode_all
from mvp_edge.export import export_onnx, verify_onnx
from mvp_edge.models.architectures import head_of, new_model, set_head
from mvp_edge.models.bases import Base
from mvp_edge.models.heads import features_of
from mvp_edge.models.macs import nominal_training_flops
from mvp_edge.models.tensors import load_weights
from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.known import listed_logits
from mvp_edge.prune.accuracy import BASE_IMAGES, measured_accuracy, predict_file, unknown_accuracy
from mvp_edge.prune.deliver import gallery, rounding, surest_errors
from mvp_edge.prune.fit import Unseen
from mvp_edge.prune.gate import JUDGED_IMAGES, Scores, failed_gate
from mvp_edge.prune.named import FILES, Made, Request, choose, expectations, report_of, write_base
from mvp_edge.prune.pictures import Pictures, read_pictures
from mvp_edge.prune.precision import Candidate, judge_precision, make_precision, scores_of
from mvp_edge.prune.request import check_place, prune_command, requested_with_photographs
from mvp_edge.report import Extras, Report, image_uri, render_html, write_json
from mvp_edge.report.record import (
    AccuracyRecord,
    BaseAccuracyRecord,
    CurveRecord,
    InterpolationRecord,
    PhotographsRecord,
    PrecisionRecord,
    PrecisionsRecord,
    SettingsRecord,
)
from mvp_edge.timing.latency import time_files
from mvp_edge.timing.session import open_session
from mvp_edge.training.frozen_head import NAMES_ALONE, Choice, Kind, NamedRows, choose_head, fit_head
from mvp_edge.training.interpolation import (
    WEIGHTS,
    Interpolation,
    State,
    calibrated_loss,
    fold_count,
    folds,
    interpolate,
    mean,
)
from mvp_edge.training.interpolation import choose as choose_weight
from mvp_edge.training.loop import BatchSource, accuracy, fit, make_optimizer, predict
from mvp_edge.training.optimizers import resolve_fit
from mvp_edge.zoo.bodies import Body, BodyZoo

FOLDS = 5  # photographs of a fifth are left out at a time
ALL_FOLDS = 2000  # photographs up to which each is left out once; beyond, one fifth tells enough
JUDGES = 20  # photographs left out, at least, that judge steps: with fewer in a fifth, up to `TRAINED` fifths
TRAINED = 3
CROP = 16  # photographs are shifted by up to this fraction of their side
USUAL = Kind(prior=True, decay=1e-2)  # where a class has one photograph, so that none can be left out


@dataclass(frozen=True, eq=False)
class Photographs:
    """A body with the photographs that it is given.

    Attributes:
        zoo: Where it is from.
        resolution: What stands for each name; an unknown name has no classes.
        body: The network.
        base: How its images are normalised; their size is the body's.
        pictures: The photographs.
        source: Name of the data.
    """

    zoo: BodyZoo
    resolution: Resolution
    body: Body
    base: Base
    pictures: Pictures
    source: str

    @property
    def train(self) -> ImageSet:
        """Photographs to learn from."""
        return self.pictures.train

    @property
    def test(self) -> ImageSet | None:
        """Photographs that only tell how good the result is; None if all are copies of others."""
        return self.pictures.test

    @property
    def all_known(self) -> bool:
        """Whether the base knows each name."""
        return not self.resolution.unknown

    @property
    def any_known(self) -> bool:
        """Whether the base knows one of the names."""
        return len(self.resolution.unknown) < len(self.resolution.named)


@dataclass(frozen=True, eq=False)
class Learned:
    """A network for the names, and how it came about.

    Attributes:
        model: On the CPU, in evaluation mode; logits `(N, names)`.
        network: The same without the sums over rows of a name: the architecture with a head of these rows.
        rows: Rows of each name.
        kind: Kind of its head.
        choice: Why; None if no photograph could be left out.
        fit: Settings of its training; no iterations if there was none.
        interpolation: How much of the training was kept.
        trained: Optimiser steps in all.
        changed: Whether the training changed the network.
        before: Logits for the test photographs before the training, if it changed the network.
        unseen: Photographs left out, with the network that has not seen them, for choices between files.
        warnings: For the user.
    """

    model: nn.Module
    network: nn.Module
    rows: tuple[int, ...]
    kind: Kind
    choice: Choice | None
    fit: FitConfig
    interpolation: Interpolation | None
    trained: int
    changed: bool
    before: Tensor | None
    unseen: Unseen | None
    warnings: tuple[str, ...]


def compress_photographs(
    config: PruneConfig,
    zoo: BodyZoo,
    progress: Progress | None = None,
    began: float | None = None,
    resolution: Resolution | None = None,
) -> Report:
    """Make a compact model from names and photographs and write it with its report.

    Args:
        config: Settings of the run, with data.
        zoo: The zoo that it names.
        progress: Progress reporter.
        began: When the job began, by `time.perf_counter`, if that was earlier.
        resolution: Result of `requested_with_photographs`, if it was called; the class list is not read again then.

    Returns:
        The report.

    Raises:
        MvpEdgeError: an input cannot be used; nothing is written then.
    """
    progress, clock = progress or SilentProgress(), Stopwatch(began)
    check_place(config)
    resolution = resolution or requested_with_photographs(config, zoo)
    with result_directory(config.out, lambda: check_place(config)) as directory:
        return make_photographed(config, zoo, resolution, directory, progress, clock)


def make_photographed(
    config: PruneConfig, zoo: BodyZoo, resolution: Resolution, directory: Path, progress: Progress, clock: Stopwatch
) -> Report:
    """Choose a body, let it learn from the photographs, and write, check and measure the file.

    Raises:
        MvpEdgeError: the data cannot be used, no body meets the budget, or the network cannot be exported.
    """
    device = resolve_device(config.device)
    with clock.time("size"), progress.stage("Choosing a size"):
        body = choose_body(config, zoo, resolution, directory)
    with clock.time("load"):
        given = read_photographs(config, zoo, resolution, body, progress)
    learned = learn(given, config, device, progress, clock)
    return _deliver(given, learned, config, device, directory, progress, clock)


def choose_body(config: PruneConfig, zoo: BodyZoo, resolution: Resolution, scratch: Path) -> Body:
    """Return the body that `named.choose` takes; what is expected of unknown names goes by their number.

    Raises:
        BudgetError: no body meets the budget.
    """
    expected = expectations(zoo, resolution)
    claimed = {i for group in resolution.groups for i in group}
    spare = (i for i in range(len(zoo.classes.classes)) if i not in claimed)
    # The head has a row for an unknown name; any class of the base costs as much.
    named = tuple(n if n.classes else replace(n, classes=(next(spare),)) for n in resolution.named)
    request = Request(zoo, replace(resolution, named=named), None, expected)
    return choose(request, replace(config, unknown=False), scratch)[0]


def read_photographs(
    config: PruneConfig, zoo: BodyZoo, resolution: Resolution, body: Body, progress: Progress
) -> Photographs:
    """Read the photographs at the pixels of a body.

    Raises:
        DataError: they do not fit the class list, or cannot be read.
        ZooError: the zoo is damaged.
    """
    base = replace(Base.from_json(dict(zoo.about)), input_size=(body.pixels, body.pixels))
    source = open_source(config.data or "", config.group_by)
    pictures = read_pictures(source, resolution.task.names, base.input_size, progress)
    return Photographs(zoo, resolution, body, base, pictures, source.name)


def learn(
    given: Photographs, config: PruneConfig, device: torch.device, progress: Progress, clock: Stopwatch
) -> Learned:
    """Fit a head to the frozen features of the photographs, then take steps if these gain on photographs left out."""
    train, resolution = given.train, given.resolution
    network = new_model(given.zoo.arch, len(given.zoo.classes.classes))
    with clock.time("load"), progress.stage("Unpacking"):
        load_weights(network, {k: torch.from_numpy(v) for k, v in given.zoo.weights(given.body).items()})
    network = on_device(network.eval(), device)
    settings = resolve_fit(config.fit, "photographs", network)
    if not isinstance(config.fit, FitConfig):
        settings = replace(settings, crop=given.body.pixels // CROP)
    with clock.time("head"):
        with progress.stage("Looking at the photographs", len(train)) as stage:
            features = features_of(network, train.images, given.base, device, stage)
        with progress.stage("Fitting a head"):
            base_head = copy.deepcopy(head_of(network)).cpu()
            prior = prior_of(base_head, features, resolution)
            parts = parts_of(train, config.seed)
            choice = None
            if parts:
                choice = choose_head(
                    features, train.labels, prior, parts, all_known=given.all_known, any_known=given.any_known,
                    generator=rng(config.seed, "parts"),
                )  # fmt: skip
            kind = USUAL if choice is None else choice.kind
            heads = Heads(base_head, resolution, features, prior, train.labels, kind)
            rows = heads.rows
            set_head(network, heads.fitted(torch.arange(len(train))))
            network = on_device(network, device)
    model = network if max(rows) == 1 else on_device(NamedRows(network, rows).eval(), device)
    warnings: list[str] = []
    interpolation, trained, changed, before = None, 0, False, None
    unseen = unseen_by_head(model, network, heads, train, parts)
    if settings.iterations > 0 and choice is None and config.schedule == "auto":
        settings = replace(settings, iterations=0)
        warnings.append(
            "a class has a single photograph, so that none can be left out to judge by: the network was not trained, "
            "only its head; add photographs, or train it unjudged with --schedule fixed"
        )
    if settings.iterations > 0:
        untrained = {k: v.clone() for k, v in model.state_dict().items()}
        with clock.time("fine_tune"):
            if config.schedule == "fixed":
                with progress.stage("Fine-tuning", settings.iterations) as stage:
                    _train(model, train, given.base, settings, device, config.seed, stage)
                trained, unseen = settings.iterations, None
            else:
                judges = enough(parts)
                trained = settings.iterations * len(judges)
                with progress.stage("Fine-tuning", trained) as stage:
                    interpolation, first = _judged(
                        model, network, heads, judges, given, settings, device, config.seed, stage
                    )  # fmt: skip
                if interpolation.weight > 0 and unseen is not None:
                    unseen = replace(unseen, state=first)
        changed = interpolation is None or interpolation.weight > 0
        if changed and given.test is not None:
            tuned = {k: v.clone() for k, v in model.state_dict().items()}
            with clock.time("evaluate"):
                model.load_state_dict(untrained)
                before = predict(model, given.test.images, given.base, device)
                model.load_state_dict(tuned)
    val = given.pictures.val
    if val is not None and len(val) >= JUDGED_IMAGES:
        unseen = Unseen(val, train)
    return Learned(
        on_host(model).eval(), on_host(network).eval(), rows, kind, choice, settings, interpolation, trained, changed,
        before, unseen, tuple(warnings),
    )  # fmt: skip


def rest_of(train: ImageSet, left_out: Tensor) -> Tensor:
    """Return the positions of all photographs but some, ascending."""
    return torch.from_numpy(np.setdiff1d(np.arange(len(train)), left_out.numpy()))


def unseen_by_head(
    model: nn.Module, network: nn.Module, heads: Heads, train: ImageSet, parts: Sequence[Tensor]
) -> Unseen | None:
    """Return the first part that is left out, with the network whose head has not seen it; None if it is too small."""
    if not parts or len(parts[0]) < JUDGED_IMAGES:
        return None
    rest, start = rest_of(train, parts[0]), {k: v.clone() for k, v in model.state_dict().items()}
    _copy_head(heads.fitted(rest), network)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(start)
    return Unseen(train.subset(parts[0]), train.subset(rest), state)


@torch.no_grad()
def _copy_head(head: nn.Linear, network: nn.Module) -> None:
    target = head_of(network)
    target.weight.copy_(head.weight)
    target.bias.copy_(head.bias)


def prior_of(head: nn.Linear, features: Tensor, resolution: Resolution) -> Tensor:
    """Return what names alone say: logits `(N, names)`, 0 for an unknown name."""
    with torch.no_grad():
        logits = head(features)
    return torch.stack(
        [logits[:, list(g)].logsumexp(1) if g else torch.zeros(len(features)) for g in resolution.groups], 1
    )


def parts_of(train: ImageSet, seed: int) -> list[Tensor]:
    """Return the positions of the photographs that are left out at a time; none if a class has only one."""
    if fold_count(train.labels, len(train.classes), FOLDS) < 2:
        return []
    parts = folds(train.labels, rng(seed, "folds"), FOLDS)
    return parts if len(train) <= ALL_FOLDS else parts[:1]


def enough(parts: Sequence[Tensor]) -> list[Tensor]:
    """Return as many parts as hold `JUDGES` photographs, at most `TRAINED`: a network is trained for each."""
    held = np.cumsum([len(p) for p in parts])
    return list(parts[: min(TRAINED, 1 + int((held < JUDGES).sum()))])


@dataclass(frozen=True, eq=False)
class Heads:
    """Heads of one kind, for the network itself.

    Attributes:
        own: The base's, on the CPU.
        resolution: What stands for each name.
        features: Of the training photographs.
        prior: What names alone say of them.
        labels: Theirs.
        kind: Of the heads.
    """

    own: nn.Linear
    resolution: Resolution
    features: Tensor
    prior: Tensor
    labels: Tensor
    kind: Kind

    @property
    def rows(self) -> tuple[int, ...]:
        """How many rows each name has: those of its base classes where these count, else one."""
        return tuple(max(1, len(g)) if self.kind.prior else 1 for g in self.resolution.groups)

    def fitted(self, index: Tensor) -> nn.Linear:
        """Return the head that is fitted to some of the photographs.

        What was fitted for a name is added to each of its rows, and so to their log-sum-exp.
        """
        added = fit_head(self.features[index], self.labels[index], self.prior[index], self.kind)
        repeats = torch.tensor(self.rows)
        weight, bias = (t.repeat_interleave(repeats, 0) for t in (added.weight, added.bias))
        if self.kind.prior:
            groups = self.resolution.groups
            weight = weight + torch.cat([self.own.weight[list(g)] if g else 0 * self.own.weight[:1] for g in groups])
            bias = bias + torch.cat([self.own.bias[list(g)] if g else 0 * self.own.bias[:1] for g in groups])
        head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)
        return head


def _train(
    model: nn.Module, train: ImageSet, base: Base, settings: FitConfig, device: torch.device, seed: int, stage: Stage
) -> None:
    source = BatchSource(train, base, settings, device, seed)
    fit(model, source, settings, optimizer=make_optimizer(model, settings), stage=stage)


def _judged(
    model: nn.Module, network: nn.Module, heads: Heads, judges: Sequence[Tensor], given: Photographs,
    settings: FitConfig, device: torch.device, seed: int, stage: Stage,
) -> tuple[Interpolation, State]:  # fmt: skip
    """Train in place and keep as much of the change as photographs left out favour, which may be nothing.

    For each part that is left out the network starts with a head that has not seen it. The mean of what training
    changes there is added to the network with the head for all photographs, as far as it helps.

    Returns:
        What was chosen, and the network that has not seen the first part.
    """
    train, start = given.train, {k: v.clone() for k, v in model.state_dict().items()}
    logits = {s: torch.empty(len(train), len(train.classes)) for s in WEIGHTS}
    changed: list[State] = []
    first: tuple[State, State] | None = None
    for left_out in judges:
        rest = rest_of(train, left_out)
        model.load_state_dict(start)
        _copy_head(heads.fitted(rest), network)
        begin = {k: v.clone() for k, v in model.state_dict().items()}
        _train(model, train.subset(rest), given.base, settings, device, seed, stage)
        end = {k: v.clone() for k, v in model.state_dict().items()}
        first = first or (begin, end)
        for weight in WEIGHTS:
            model.load_state_dict(interpolate(begin, end, weight))
            logits[weight][left_out] = predict(model, train.images[left_out], given.base, device)
        changed.append({k: v - begin[k] if v.is_floating_point() else v for k, v in end.items()})
    out = torch.cat(list(judges))
    even = torch.ones(len(out))
    losses = {s: calibrated_loss(v[out], train.labels[out], even) for s, v in logits.items()}
    weight, change = choose_weight(losses), mean(changed)
    model.load_state_dict(
        {k: v + weight * change[k] if weight and v.is_floating_point() else v for k, v in start.items()}
    )
    model.eval()
    assert first is not None
    chosen = Interpolation(
        weight=weight,
        images=len(out),
        folds=len(judges),
        loss={s: float(v.mean()) for s, v in losses.items()},
        top1={s: 100 * float((v[out].argmax(1) == train.labels[out]).float().mean()) for s, v in logits.items()},
    )
    return chosen, interpolate(*first, weight)


def _deliver(
    given: Photographs, learned: Learned, config: PruneConfig, device: torch.device, directory: Path,
    progress: Progress, clock: Stopwatch,
) -> Report:  # fmt: skip
    """Write the network, check and measure the file, and report it.

    Raises:
        ExportError: the network cannot be exported, the file disagrees with it, or a file cannot be written.
    """
    file = directory / FILES[0]
    with clock.time("export"), progress.stage("Exporting"):
        parity = _write(directory, file, given, learned, config)
    with TemporaryDirectory() as scratch:
        whole = write_base(given.zoo, given.body, given.zoo.weights(given.body), Path(scratch) / "base.onnx")
        with clock.time("evaluate"), progress.stage("Evaluating"):
            logits = None if given.test is None else predict_file(file, given.test)
            score, base_score, warnings = _evaluate(whole, given, learned, logits, config.seed)
        with clock.time("quantise"), progress.stage("Trying other precisions"):
            made = make_precision(file, config.precision, given.train.images, config.seed)
        with clock.time("measure"), progress.stage("Measuring"):
            others = [made.path] if isinstance(made, Candidate) else []
            base_timing, *other_timings, timing = time_files([whole, *others, file])
        with clock.time("quantise"):
            held_out = held_out_scores(file, made, Path(scratch) / FILES[0], given, learned, config)
            test = None
            if isinstance(made, Candidate) and given.test is not None:
                test = scores_of(file, made.path, given.test)
            precisions = judge_precision(
                file, config.precision, made, [timing, *other_timings], held_out, test
            )  # fmt: skip
        width = head_of(learned.network).in_features
        head = sum(learned.rows) * width, sum(learned.rows) * (width + 1)
        expected = expectations(given.zoo, given.resolution)
        own = next(e for b, e in expected if b is given.body)
        dense_bytes = whole.stat().st_size
        stated = Made(given.body, own, file, None, head, parity, [base_timing, timing], dense_bytes)
        report = report_of(Request(given.zoo, given.resolution, None, expected), stated, config, clock)
    nominal = nominal_training_flops(given.body.macs, 1.0, learned.trained, learned.fit.batch_size)
    report = msgspec.structs.replace(
        report,
        method=method_in_words(given.body, learned),
        origin="photographs",
        accuracy=score,
        base_accuracy=base_score,
        estimate=None,
        photographs=photographs_record(given, learned),
        precisions=PrecisionsRecord(requested=config.precision, files=precisions),
        sizes=(),
        interpolation=None
        if learned.interpolation is None
        else InterpolationRecord.from_json(learned.interpolation.to_json()),
        nominal_training_tflops=round(nominal / 1e12, 4),
        files=(*FILES, *(p.file for p in precisions[1:] if p.kept)),
        data=given.source,
        pictures=given.pictures.record,
        data_sha256=given.train.sha256,
        settings=SettingsRecord(vote=config.vote, fit=learned.fit),
        environment=environment(device),
        seconds=clock.rounded(),
        warnings=(
            *given.pictures.warnings, *report.warnings, *learned.warnings, *rounding(parity), *warnings,
            *failed_gate(precisions), *no_known(config),
        ),
    )  # fmt: skip
    write_json(report, directory / "report.json")
    extras = Extras(command=prune_command(config))
    if config.thumbnails and given.test is not None and logits is not None:
        extras = replace(
            extras,
            samples=gallery(file, given.test),
            errors=surest_errors(logits, given.test),
            copies=tuple((image_uri(one), image_uri(other)) for one, other in given.pictures.copied),
        )
    render_html(report, {}, extras, directory / "report.html")
    return report


def _evaluate(
    whole: Path, given: Photographs, learned: Learned, logits: Tensor | None, seed: int
) -> tuple[AccuracyRecord, BaseAccuracyRecord | None, list[str]]:
    """Return the accuracy of the delivered file, that of the base, and warnings."""
    if given.test is None or logits is None:
        return unknown_accuracy(), None, []
    score, warnings = measured_accuracy(logits, given.test, learned.before, given.source)
    base_score, reasons = base_accuracy(whole, given, given.test, logits, seed)
    return score, base_score, [*warnings, *reasons]


def held_out_scores(
    file: Path, made: Candidate | PrecisionRecord | None, stand_in: Path, given: Photographs, learned: Learned,
    config: PruneConfig,
) -> Scores | None:  # fmt: skip
    """Return the accuracy of the delivered file and of its candidate on photographs that neither has learned from.

    Where these are training photographs, the network that has not seen them is written to `stand_in`, and judged.

    Raises:
        ExportError: that network cannot be exported.
    """
    unseen = learned.unseen
    if unseen is None or not isinstance(made, Candidate):
        return None
    if unseen.state is None:
        return scores_of(file, made.path, unseen.images)
    model = copy.deepcopy(learned.model)
    model.load_state_dict(unseen.state)
    _export(stand_in, model, given, config, {})
    converted = make_precision(stand_in, made.precision, unseen.trained.images, config.seed)
    return scores_of(stand_in, converted.path, unseen.images) if isinstance(converted, Candidate) else None


def _export(file: Path, model: nn.Module, given: Photographs, config: PruneConfig, provenance: dict[str, str]) -> None:
    export_onnx(
        model, file, input_size=given.base.input_size, mean=given.base.mean, std=given.base.std,
        labels=given.resolution.task.names, metadata=provenance, input_format=config.input,
    )  # fmt: skip


def _write(directory: Path, file: Path, given: Photographs, learned: Learned, config: PruneConfig) -> float:
    """Write the model, labels, plan and weights; return the largest difference between logits of file and network."""
    base, body, names = given.base, given.body, given.resolution.task.names
    provenance = {"base": given.zoo.base, "zoo": given.zoo.name, "body": body.id, "seed": str(config.seed)}
    _export(file, learned.model, given, config, provenance)
    parity = verify_onnx(file, learned.model, base.input_size, base.mean, base.std)
    plan = {
        "format": 1, "base": dict(given.zoo.about), "body": body.id, "pixels": body.pixels,
        "achieved_keep": body.keep, "groups": [], "rows": list(learned.rows),
    }  # fmt: skip
    write_atomically(directory / "labels.txt", "".join(f"{n}\n" for n in names).encode())
    write_atomically(directory / "plan.json", json.dumps(plan).encode())
    state = {k: v.contiguous() for k, v in learned.network.state_dict().items()}
    write_atomically(directory / "weights.safetensors", save(state))
    return parity


def base_accuracy(
    whole: Path, given: Photographs, test: ImageSet, logits: Tensor, seed: int
) -> tuple[BaseAccuracyRecord | None, list[str]]:
    """Return how often the base at its own pixels is right by names alone, on at most `BASE_IMAGES` test photographs.

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
    some = rng(seed, "base").permutation(len(test))[:BASE_IMAGES]
    part = test.subset(some)
    pixels = decode_all(part.files, part.labels.tolist(), (given.zoo.pixels, given.zoo.pixels))
    if len(pixels.images) != len(part):
        return None, ["no accuracy of the base to compare with: test images changed while this ran"]
    session = open_session(whole, torch.get_num_threads())
    found = np.concatenate([session.run(session.feed(p.numpy())) for p in pixels.images.split(32)])
    whole_score = accuracy(torch.from_numpy(listed_logits(found, given.resolution.groups)), part)
    own = accuracy(logits[some], part)
    return BaseAccuracyRecord(top1=round(whole_score.top1, 2), n=whole_score.n, model_top1=round(own.top1, 2)), []


def method_in_words(body: Body, learned: Learned) -> str:
    """Return how a model was made, in the words of a report."""
    kind = learned.kind
    head = "the base's own head" if kind == NAMES_ALONE else "a head fitted to the photographs"
    if kind.prior and kind != NAMES_ALONE:
        head += ", starting from what the base knows of the names"
    return f"a ready-made network at {body.pixels} pixels, {head}" + (
        "" if not learned.changed else ", then all of it trained on them"
    )


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
        curve=tuple(CurveRecord(images=p.images, top1=round(p.top1, 2)) for p in curve),
        advice=advice(choice),
    )  # fmt: skip


def advice(choice: Choice | None) -> str:
    """Return one sentence on whether more photographs would help."""
    if choice is None:
        return "whether more photographs would help is unknown: a class has a single one"
    gain, error = choice.gain
    few, many = choice.curve[-2].images, choice.curve[-1].images
    what = f"from {few} to {many} photographs the head changed by {gain:+.1f} points (standard error {error:.1f})"
    if gain > error and gain > 0:
        return f"more photographs would probably help: {what}"
    return f"more photographs of this kind would probably not help much: {what}"


def no_known(config: PruneConfig) -> list[str]:
    """Return a warning that the file has no output `known`, if one may be expected."""
    if not config.unknown:
        return []
    return ["with photographs the file has no output `known`: it takes every picture for one of the classes"]
