"""The main job: from a class list to a compact model, its report and everything in between."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mvp_edge.atomic import write_atomically
from mvp_edge.config import PruneConfig
from mvp_edge.data import ImageSet, open_source
from mvp_edge.errors import ConfigError
from mvp_edge.export import OnnxClassifier, export_onnx, verify_onnx
from mvp_edge.latency import compare_latency
from mvp_edge.measure import count_macs, count_params, nominal_training_flops
from mvp_edge.metavote import Neighbour, Trunk, assemble, rank, vote
from mvp_edge.output import check_output, result_directory
from mvp_edge.plan import KeepPlan
from mvp_edge.report import Extras, Sample, image_uri, render_html, write_json
from mvp_edge.runtime import Progress, SilentProgress, Stopwatch, environment, resolve_device
from mvp_edge.similarity import wordnet
from mvp_edge.slicing import faithfulness
from mvp_edge.tasks import Task, canonical, read_task
from mvp_edge.train import Accuracy, BatchSource, accuracy, fit, make_optimizer, predict
from mvp_edge.zoo import MemberInfo, Zoo, member_id, open_zoo

GALLERY = 6  # test images of each class in the report
FAR_WORDNET = 0.6
FAR_LEEP = 0.75  # of the LEEP of a member whose predictions say nothing about the task


@dataclass(frozen=True)
class Inputs:
    """What a run works on, checked."""

    task: Task
    train: ImageSet
    test: ImageSet
    source: str
    zoo: Zoo
    device: torch.device
    warnings: list[str]


def compress(config: PruneConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Make a compact model for a task and write it with its report.

    Args:
        config: What to do.
        progress: Who is told how far it is.

    Returns:
        What `report.json` holds.

    Raises:
        MvpEdgeError: an input cannot be used; nothing is written then.
    """
    progress = progress or SilentProgress()
    clock = Stopwatch()
    check_output(config.out, force=config.force)
    with clock.time("load"):
        inputs = read_inputs(config, progress)
        trunk = Trunk.of(inputs.zoo.base, inputs.zoo.load_base())
    with clock.time("rank"), progress.stage("Ranking the zoo", None) as stage:
        neighbours = rank(
            inputs.zoo, trunk, inputs.task, inputs.train, config.vote, device=inputs.device, seed=config.seed, stage=stage
        )[: config.vote.neighbours]  # fmt: skip
    if warning := far_warning(neighbours, inputs.task, config.vote.similarity):
        inputs.warnings.append(warning)
    with clock.time("vote"):
        plan, voters = vote(inputs.zoo, trunk, neighbours, config.vote, config.seed)
    with clock.time("slice"), progress.stage("Slicing", None):
        check = torch.randn(2, 3, *trunk.base.input_size, generator=torch.Generator().manual_seed(0))
        sliced_diff = faithfulness(trunk.model, trunk.table, plan, check)
        model = assemble(
            trunk, plan, voters, inputs.train, config.vote, device=inputs.device, seed=config.seed
        )  # fmt: skip
    with clock.time("fine_tune"):
        fine_tune(model, trunk, inputs, config, progress)
    model = model.to("cpu", memory_format=torch.contiguous_format).eval()
    with result_directory(config.out) as directory:
        report = _deliver(directory, model, plan, trunk, inputs, neighbours, config, clock, progress)
        report["sliced_vs_masked_max_abs_diff"] = sliced_diff
        if config.add_to_zoo:
            report["added_member"] = _add(inputs.zoo, trunk, inputs.task, plan, model, config, report)
        report["seconds"] = {k: round(v, 3) for k, v in clock.seconds.items()} | {"total": round(clock.total, 3)}
        write_json(report, directory / "report.json")
        render_html(report, plan.to_json(), _extras(directory / "model.onnx", inputs, config), directory / "report.html")
    return report


def read_inputs(config: PruneConfig, progress: Progress) -> Inputs:
    """Read and check the class list, the images, the zoo and the device.

    Raises:
        MvpEdgeError: one of them cannot be used.
    """
    task = wordnet.resolve(read_task(config.task))
    device = resolve_device(config.device)
    zoo = open_zoo(config.zoo)
    if config.data is None:
        raise ConfigError(
            "no images were given; add --data DIR with folders DIR/train/CLASS and DIR/test/CLASS (or DIR/CLASS), "
            "or a data set's name such as --data cifar100"
        )
    source = open_source(config.data)
    sets = []
    for split in ("train", "test"):
        with progress.stage(f"Reading {split} images", source.count(task.names, split)) as stage:
            sets.append(source.load(task.names, split, zoo.base.input_size, stage.advance))
    train, test = sets
    warnings = list(source.notes)
    if skipped := [*train.skipped, *test.skipped]:
        shown = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        warnings.append(f"{len(skipped)} unreadable images were skipped: {shown}")
    return Inputs(task, train, test, source.name, zoo, device, warnings)


def fine_tune(model: nn.Module, trunk: Trunk, inputs: Inputs, config: PruneConfig, progress: Progress) -> None:
    """Train the assembled network on the task's images, in place (Algorithm 1, line 9)."""
    if config.fit.iterations == 0:
        return
    teacher = None
    if config.fit.distill > 0:
        teacher = restricted_teacher(trunk, inputs.task, inputs.train, inputs.device, progress)
        if teacher is None:
            inputs.warnings.append("distillation is off: the base model does not know all classes of this task")
    with progress.stage("Fine-tuning", config.fit.iterations) as stage:
        source = BatchSource(inputs.train, trunk.base, config.fit, inputs.device, config.seed, teacher)
        fit(model, source, config.fit, optimizer=make_optimizer(model, config.fit), stage=stage)


def restricted_teacher(
    trunk: Trunk, task: Task, data: ImageSet, device: torch.device, progress: Progress
) -> Tensor | None:
    """Return the base model's logits `(N, classes)` for the task's classes, or None if it does not know them all."""
    known = {canonical(n): i for i, n in enumerate(trunk.base.classes)}
    if not all(canonical(n) in known for n in task.names):
        return None
    with progress.stage("Asking the base model", len(data)) as stage:
        whole = trunk.model.to(device, memory_format=torch.channels_last)
        logits = predict(whole, data.images, trunk.base, device, stage=stage, bf16=True)
    return logits[:, [known[canonical(n)] for n in task.names]]


def far_warning(neighbours: list[Neighbour], task: Task, similarity: str) -> str | None:
    """Return a warning if even the nearest task tells little about this one."""
    best = neighbours[0].similarity
    far = best < (FAR_WORDNET if similarity == "wordnet" else -FAR_LEEP * math.log(len(task.classes)))
    if not far:
        return None
    return (
        f"even the nearest task in the zoo is far from this one ({similarity} {best:.2f}); expect less than usual, "
        "or add members near it with: mvp-edge zoo build"
    )


def _deliver(
    directory: Path, model: nn.Module, plan: KeepPlan, trunk: Trunk, inputs: Inputs, neighbours: list[Neighbour],
    config: PruneConfig, clock: Stopwatch, progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """Write model, labels, plan and weights; evaluate and measure what was written; return the report."""
    base, names = trunk.base, inputs.task.names
    file = directory / "model.onnx"
    shape = {"input_size": base.input_size, "mean": base.mean, "std": base.std}
    with clock.time("export"), progress.stage("Exporting", None):
        provenance = {"base": base.name, "zoo": inputs.zoo.name, "keep": str(config.vote.keep), "seed": str(config.seed)}
        export_onnx(model, file, labels=names, metadata=provenance, **shape)
        parity = verify_onnx(file, model, base.input_size, base.mean, base.std)
        write_atomically(directory / "labels.txt", "".join(f"{n}\n" for n in names).encode())
        write_atomically(directory / "plan.json", json.dumps({"base": base.to_json(), **plan.to_json()}).encode())
        write_atomically(directory / "weights.safetensors", save(trunk.state_of(model)))
    with clock.time("evaluate"), progress.stage("Evaluating", None):
        logits = torch.as_tensor(OnnxClassifier(file, torch.get_num_threads()).predict(inputs.test.images.numpy()))
        score = accuracy(logits, inputs.test)
    with clock.time("measure"), progress.stage("Measuring", None), TemporaryDirectory() as scratch:
        dense = Path(scratch) / "dense.onnx"
        whole = trunk.model.to("cpu", memory_format=torch.contiguous_format)
        dense_names = base.classes or tuple(map(str, range(whole.num_classes)))  # pyright: ignore
        export_onnx(whole, dense, labels=dense_names, metadata={}, **shape)
        slow, fast = compare_latency([dense, file])
        base_macs = count_macs(whole, base.input_size)
        report = {
            "task": {"classes": list(names), "synsets": [c.synset for c in inputs.task.classes], "id": inputs.task.id},
            "base": base.name,
            "method": "meta-vote pruning",
            "neighbours": [_describe(n) for n in neighbours],
            "keep": {"requested": config.vote.keep, "achieved": round(plan.achieved, 4)},
            "accuracy": _score(score, inputs.source),
            "params": count_params(model),
            "base_params": count_params(whole),
            "macs": count_macs(model, base.input_size),
            "base_macs": base_macs,
            "nominal_training_tflops": round(
                nominal_training_flops(base_macs, config.vote.keep, config.fit.iterations, config.fit.batch_size) / 1e12, 4
            ),
            "bytes": {"onnx": file.stat().st_size, "dense_onnx": dense.stat().st_size},
            "latency_ms": {
                "dense": {"median": round(slow.median_ms, 4), "iqr": round(slow.iqr_ms, 4), "p95": round(slow.p95_ms, 4)},
                "pruned": {"median": round(fast.median_ms, 4), "iqr": round(fast.iqr_ms, 4), "p95": round(fast.p95_ms, 4)},
                "threads": fast.threads,
                "runs": fast.runs,
            },
        }  # fmt: skip
    if fast.median_ms > slow.median_ms:
        inputs.warnings.append("the pruned model is slower than the dense one on this machine; keep less or align more")
    return report | {
        "groups": [{"name": g.name, "width": g.width, "kept": len(g.kept)} for g in plan.groups],
        "parity_max_abs_diff": parity,
        "files": ["model.onnx", "labels.txt", "plan.json", "weights.safetensors", "report.json", "report.html"],
        "out": str(config.out),
        "zoo": inputs.zoo.name,
        "data": inputs.source,
        "seed": config.seed,
        "settings": {"vote": asdict(config.vote), "fit": asdict(config.fit)},
        "environment": environment(inputs.device),
        "warnings": inputs.warnings,
    }


def _describe(neighbour: Neighbour) -> dict[str, Any]:
    info = neighbour.info
    return {
        "id": info.id,
        "classes": list(info.task.names),
        "similarity": round(neighbour.similarity, 4),
        "breadth": info.breadth,
    }


def _score(score: Accuracy, source: str) -> dict[str, Any]:
    return {
        "top1": round(score.top1, 2),
        "n": score.n,
        "source": f"{source}, test split, delivered ONNX file",
        "per_class": {k: None if v is None else round(v, 2) for k, v in score.per_class.items()},
        "confusion": [list(row) for row in score.confusion],
    }


def _extras(file: Path, inputs: Inputs, config: PruneConfig) -> Extras:
    """Return the first test images of each class with what the delivered model says, and the command to repeat."""
    test = inputs.test
    chosen = [int(i) for k in range(len(test.classes)) for i in (test.labels == k).nonzero()[:GALLERY]]
    classifier = OnnxClassifier(file)
    chances = torch.as_tensor(classifier.predict(test.images[chosen].numpy())).softmax(1)
    samples = tuple(
        Sample(image_uri(test.images[i]), test.classes[int(test.labels[i])], test.classes[int(p.argmax())], float(p.max()))
        for i, p in zip(chosen, chances, strict=True)
    )
    return Extras(samples, f"mvp-edge prune --task {config.task} --data {config.data} --seed {config.seed}")


def _add(
    zoo: Zoo, trunk: Trunk, task: Task, plan: KeepPlan, model: nn.Module, config: PruneConfig, report: dict[str, Any]
) -> str:
    recipe = {"method": "mvp", "vote": asdict(config.vote), "fit": asdict(config.fit), "seed": config.seed}
    info = MemberInfo(
        member_id(task, recipe), task, "narrow", plan, trunk.base.sha256, recipe, report["accuracy"]["top1"]
    )
    return zoo.add(info, trunk.state_of(model)).id
