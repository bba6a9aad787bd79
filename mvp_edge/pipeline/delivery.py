"""The result of a run: write the model, evaluate and measure what was written, and tell it honestly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from mvp_edge.budget import costs_of
from mvp_edge.config import InputFormat, PruneConfig, Similarity
from mvp_edge.data import ImageSet
from mvp_edge.export import TOLERANCE, OnnxClassifier, export_onnx, take_inventory, verify_onnx
from mvp_edge.export.interface import read_interface
from mvp_edge.files.atomic import write_atomically
from mvp_edge.measure import count_macs, count_params, nominal_training_flops
from mvp_edge.metavote import Neighbour, Trunk
from mvp_edge.networks.models import head_of
from mvp_edge.pipeline.command import prune_command
from mvp_edge.pipeline.known import KnownScore, Size, keep_to_ask_for
from mvp_edge.pipeline.origin import method_in_words, origin_of
from mvp_edge.pipeline.tuning import Tuned, harmed
from mvp_edge.pipeline.variants import Made, judge_variant, make_variant, notes
from mvp_edge.plan import KeepPlan
from mvp_edge.report import Extras, Sample, image_uri, render_html, write_json
from mvp_edge.runtime import Progress, Stopwatch, environment, on_host, rng
from mvp_edge.similarity import wordnet
from mvp_edge.tasks import Task, canonical, numbered
from mvp_edge.timing.latency import Timing, time_within
from mvp_edge.training.loop import accuracy

FILES = ("model.onnx", "labels.txt", "plan.json", "weights.safetensors", "report.json", "report.html")
OVER, UNDER = 1.05, 0.9  # of a limit: what is said aloud
BASE_IMAGES = 200  # what the whole base model is asked about: it takes some thirty times as long as what is delivered
GALLERY = 6  # test images of each class in the report


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run has made so far.

    Attributes:
        task: Its classes.
        test: Real images that nothing was trained on, if there are any.
        known: How good the network is known to be, where there are no images.
        sizes: Ready-made models of all sizes and how good they are known to be, where there are no images.
        source: Name of the data.
        zoo: Name of the zoo.
        trunk: The base model.
        neighbours: Who voted.
        similarity: What made them the nearest.
        plan: What was kept.
        model: The network, on the CPU, in evaluation mode.
        tuned: How it was fine-tuned; no iterations if it was not.
        device: Where it was trained.
        warnings: What the user should know.
        requested: Units of each group that were asked for, before lanes that cost no time were filled.
        generated: Images generated from the base model, shown where there are no real ones.
        digest: Checksum of the training images, if there are any.
        calibration: uint8 images `(N, 3, H, W)` such as the model will see, real or generated, for INT8.
        before: Logits `(N, classes)` of the network for the test images before it was fine-tuned, if it was.
    """

    task: Task
    test: ImageSet | None
    known: KnownScore | None
    sizes: Sequence[Size]
    source: str | None
    zoo: str
    trunk: Trunk
    neighbours: Sequence[Neighbour]
    similarity: Similarity
    plan: KeepPlan
    model: nn.Module
    tuned: Tuned
    device: torch.device
    warnings: list[str]
    requested: Mapping[str, int]
    generated: ImageSet | None = None
    digest: str | None = None
    calibration: Tensor | None = None
    before: Tensor | None = None


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
    base, names, model = outcome.trunk.base, outcome.task.names, outcome.model
    file = directory / "model.onnx"
    with clock.time("export"), progress.stage("Exporting"):
        asked = config.budget.label if config.budget else str(config.vote.keep)
        provenance = {"base": base.name, "zoo": outcome.zoo, "keep": asked, "seed": str(config.seed)}
        _export(model, outcome.trunk, file, names, provenance, config.input)
        parity = verify_onnx(file, model, base.input_size, base.mean, base.std)
        if parity > TOLERANCE:
            outcome.warnings.append(
                f"the file and the network differ by up to {parity:.1e}, more than the usual {TOLERANCE:.0e}, but as "
                "float32's own rounding of this network does; do not rely on smaller differences between logits"
            )
        plan = {"base": base.to_json(), "requested": dict(outcome.requested), **outcome.plan.to_json()}
        write_atomically(directory / "labels.txt", "".join(f"{n}\n" for n in names).encode())
        write_atomically(directory / "plan.json", json.dumps(plan).encode())
        write_atomically(directory / "weights.safetensors", save(outcome.trunk.state_of(model)))
        _export_base(whole, outcome.trunk, config.input)
    with clock.time("evaluate"), progress.stage("Evaluating"):
        logits = None if outcome.test is None else _logits(file, outcome.test)
        score = _evaluate(logits, outcome)
        base_score = _evaluate_base(whole, logits, outcome, config.seed)
    if score["top1"] is None:
        outcome.warnings.append(f"accuracy is unknown: {score['source']}")
    with clock.time("quantise"), progress.stage("Trying other precisions"):
        made = make_variant(file, config.precision, outcome.calibration, outcome.test, config.seed)
    with clock.time("measure"), progress.stage("Measuring"):
        costs, timings = _measure(file, [made.path] if isinstance(made, Made) else [], whole, outcome, config)
    with clock.time("quantise"):
        variants = judge_variant(file, config.precision, made, timings, outcome.test, threads=torch.get_num_threads())
        outcome.warnings.extend(notes(variants))
    slow, fast = (costs["latency_ms"][k]["median"] for k in ("dense", "pruned"))
    if fast > slow:
        outcome.warnings.append("the pruned model is slower than the dense one here; keep less, or align to 8 or 16")
    budget = _spent(config, outcome, costs)
    inventory = take_inventory(file)
    origin = origin_of(outcome.plan, outcome.neighbours, outcome.tuned)
    return {
        "task": {"classes": list(names), "synsets": [c.synset for c in outcome.task.classes], "id": outcome.task.id},
        "base": base.name,
        "method": method_in_words(origin, config.vote.method),
        "origin": origin,
        "neighbours": [_describe(n) for n in outcome.neighbours],
        "keep": {"requested": None if config.budget else config.vote.keep, "achieved": round(outcome.plan.achieved, 4)},
        "budget": budget,
        "accuracy": score,
        "base_accuracy": base_score,
        "sizes": [s.to_json() for s in outcome.sizes],
        "mix": None if outcome.tuned.mix is None else outcome.tuned.mix.to_json(),
        "teacher": None if outcome.tuned.asked is None else outcome.tuned.asked.to_json(),
        **costs,
        "precisions": {
            "asked": config.precision,
            "calibrated_on": "generated images" if outcome.test is None else "training images",
            "files": [v.to_json() for v in variants],
        },
        "operators": inventory.operators,
        "largest_rank": inventory.largest_rank,
        "groups": [
            {"name": g.name, "width": g.width, "kept": len(g.kept), "requested": outcome.requested[g.name]}
            for g in outcome.plan.groups
        ],
        "parity_max_abs_diff": parity,
        "files": [*FILES, *(v.file for v in variants[1:] if v.kept)],
        "out": str(config.out),
        "zoo": outcome.zoo,
        "input": config.input,
        "interface": _interface(file),
        "data": outcome.source,
        "data_sha256": outcome.digest,
        "seed": config.seed,
        "settings": {
            "vote": {**asdict(config.vote), "similarity": outcome.similarity},
            "fit": outcome.tuned.fit.to_recipe(),
            **({"budget": config.budget.given} if config.budget else {}),
        },
        "environment": environment(outcome.device),
        "warnings": outcome.warnings,
    }


def write_report(directory: Path, report: dict[str, Any], outcome: Outcome, config: PruneConfig) -> None:
    """Write `report.json` and `report.html`.

    Raises:
        ExportError: they cannot be written.
    """
    write_json(report, directory / "report.json")
    shown = outcome.generated if outcome.test is None else outcome.test
    samples = () if shown is None else _gallery(directory / "model.onnx", shown)
    extras = Extras(samples, prune_command(config), "generated" if outcome.test is None else "test")
    render_html(report, outcome.plan.to_json(), extras, directory / "report.html")


def member_recipe(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the model of a report was made and from which images; with its task that names a member of a zoo."""
    settings = report["settings"]
    images = {"data": report["data"], "data_sha256": report.get("data_sha256")}  # earlier versions did not tell it
    return {"method": settings["vote"]["method"], **settings, "seed": report["seed"], **images}


def _export(
    model: nn.Module, trunk: Trunk, path: Path, labels: Sequence[str], metadata: dict[str, str], kind: InputFormat
) -> None:
    base = trunk.base
    export_onnx(
        model, path, input_size=base.input_size, mean=base.mean, std=base.std, labels=labels, metadata=metadata,
        input_format=kind,
    )  # fmt: skip


def _export_base(path: Path, trunk: Trunk, kind: InputFormat) -> None:
    """Write the whole base model, on the CPU from then on."""
    whole = on_host(trunk.model)
    outputs = head_of(whole).out_features
    _export(whole, trunk, path, trunk.base.classes or [str(i) for i in range(outputs)], {}, kind)


def _measure(
    file: Path, others: Sequence[Path], dense: Path, outcome: Outcome, config: PruneConfig
) -> tuple[dict[str, Any], list[Timing]]:
    """Compare the delivered file with the whole base model and with other precisions, in turns in one process.

    Returns:
        What the report tells of the costs, and the timings of the delivered file and of the others.
    """
    trunk = outcome.trunk
    whole = trunk.model
    limit = config.budget.latency_ms if config.budget else None
    base_timing, *other_timings, timing = time_within(OVER * (limit or math.inf), [dense, *others, file])
    slow, fast = base_timing.latency(), timing.latency()
    times_ms = {"dense": slow.to_json(), "pruned": fast.to_json()}
    stored = take_inventory(file)
    sizes = {"onnx": stored.file_bytes, "parameters": stored.parameter_bytes, "dense_onnx": dense.stat().st_size}
    base_macs = count_macs(whole, trunk.base.input_size)
    outputs = head_of(whole).out_features
    reach = costs_of(whole, trunk.table, trunk.base.input_size, trunk.head, outputs)
    floor, _ = reach.share(np.ones_like(reach.widths))
    keep = outcome.plan.achieved if config.budget else config.vote.keep
    nominal = nominal_training_flops(base_macs, keep, outcome.tuned.iterations, outcome.tuned.fit.batch_size)
    costs = {
        "params": count_params(outcome.model),
        "base_params": count_params(whole),
        "macs": count_macs(outcome.model, trunk.base.input_size),
        "base_macs": base_macs,
        "floor_macs": round(base_macs * floor),
        "nominal_training_tflops": round(nominal / 1e12, 4),
        "bytes": sizes,
        "latency_ms": {**times_ms, "threads": fast.threads, "runs": fast.runs, "clock": fast.clock},
    }
    return costs, [timing, *other_timings]


def _spent(config: PruneConfig, outcome: Outcome, costs: dict[str, Any]) -> dict[str, dict[str, float]] | None:
    """Return each limit with what was achieved; what is over a limit or far under the tightest one is a warning."""
    if config.budget is None:
        return None
    figures = {
        "latency_ms": costs["latency_ms"]["pruned"]["median"],
        "macs": costs["macs"],
        "params": costs["params"],
        "size_kib": costs["bytes"]["onnx"] / 1024,
    }
    spent = {k: {"limit": v, "achieved": round(figures[k], 4)} for k, v in config.budget.given.items()}
    for name, value in spent.items():
        if value["achieved"] > OVER * value["limit"]:
            outcome.warnings.append(
                f"{name} is {value['achieved']:g}, over the budget of {value['limit']:g}"
                + ("; other programs may have slowed the measurement down" if name == "latency_ms" else "")
            )
    if max(v["achieved"] / v["limit"] for v in spent.values()) < UNDER and outcome.plan.achieved < 1:
        why = "no larger network that fits was found"
        if config.data is None:
            why = "without images a member is delivered as it is; --data DIR makes networks between their sizes"
        outcome.warnings.append(f"the budget is not used up: {why}")
    return spent


def _interface(file: Path) -> dict[str, Any]:
    """Return what the delivered file takes and gives, read from the file itself; its classes are those of the task."""
    return {k: v for k, v in read_interface(file).to_json().items() if k != "classes"}


def _describe(neighbour: Neighbour) -> dict[str, Any]:
    info = neighbour.info
    return {
        "id": info.id,
        "classes": list(info.task.names),
        "similarity": round(neighbour.similarity, 4),
        "breadth": info.breadth,
        "keep": keep_to_ask_for(info),
    }


def _logits(file: Path, images: ImageSet) -> Tensor:
    """Return what a file says of images `(N, outputs)`."""
    return torch.as_tensor(OnnxClassifier(file, torch.get_num_threads()).predict(images.images.numpy()))


def _evaluate(logits: Tensor | None, outcome: Outcome) -> dict[str, Any]:
    """Return the accuracy of the delivered file by its logits for the test images, or what is known of it without any.

    `top1_before` is that of the network before it was fine-tuned, on the same images. They only tell: nothing is chosen
    by them, so that a network that fine-tuning has made worse is delivered with a warning.
    """
    before = None
    if outcome.test is not None and logits is not None:
        score = accuracy(logits, outcome.test)
        if outcome.before is not None:
            before = round(accuracy(outcome.before, outcome.test).top1, 2)
            if harmed(outcome.before, logits, outcome.test.labels):
                outcome.warnings.append(
                    f"fine-tuning made the model worse: top-1 is {score.top1:.1f} %, and was {before:.1f} % before, on "
                    "the same test images; train for longer with --iterations, or not at all with --iterations 0"
                )
        source = f"{outcome.source}, test split, delivered ONNX file"
    elif outcome.known is not None:
        score, source = outcome.known.accuracy, outcome.known.source
    else:
        source = (
            "there are no test images, and the zoo stores no outputs of this member; evaluate it with: mvp-edge eval"
        )
        return {"top1": None, "top1_before": None, "n": 0, "source": source, "per_class": {}, "confusion": []}
    return {**score.to_json(), "top1_before": before, "source": source}


def _evaluate_base(whole: Path, logits: Tensor | None, outcome: Outcome, seed: int) -> dict[str, float] | None:
    """Return what the whole base model scores on at most `BASE_IMAGES` test images when only the task's classes count.

    With it comes what the delivered file scores on these images, by its `logits` for all. None without test images, or
    where the base does not know all classes in the sense that is meant.
    """
    classes = outcome.trunk.base.classes
    if outcome.test is None or logits is None or outcome.task.unknown_to(wordnet.resolve_names(classes)):
        return None
    column = numbered(classes)
    wanted = [column[canonical(n)] for n in outcome.task.names]
    some = rng(seed, "base").permutation(len(outcome.test))[:BASE_IMAGES]
    test = outcome.test.subset(some)
    base, model = accuracy(_logits(whole, test)[:, wanted], test), accuracy(logits[some], test)
    return {"top1": round(base.top1, 2), "n": base.n, "model_top1": round(model.top1, 2)}


def _gallery(file: Path, images: ImageSet) -> tuple[Sample, ...]:
    """Return the first images of each class with what the delivered model says."""
    chosen = [int(i) for k in range(len(images.classes)) for i in (images.labels == k).nonzero()[:GALLERY]]
    chances = torch.as_tensor(OnnxClassifier(file).predict(images.images[chosen].numpy())).softmax(1)
    return tuple(
        Sample(
            image=image_uri(images.images[i]),
            true=images.classes[int(images.labels[i])],
            predicted=images.classes[int(p.argmax())],
            confidence=float(p.max()),
        )
        for i, p in zip(chosen, chances, strict=True)
    )
