"""Accuracy of a model: on test images, beside the base; or, without images, from a member's stored outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.data.leaks import thumbnail_warning
from mvp_edge.export import OnnxClassifier
from mvp_edge.models.bases import Base
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, canonical, numbered
from mvp_edge.prune.gate import JUDGED_IMAGES
from mvp_edge.report.record import AccuracyRecord, BaseAccuracyRecord, SizeRecord
from mvp_edge.training.loop import Accuracy, accuracy, score
from mvp_edge.voting.neighbours import ROUNDING, Neighbour, knowing
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo

BASE_IMAGES = 200  # test images for the whole base model, which is about thirty times as slow as what is delivered
CONFIDENCE = 0.95
UNKNOWN = "there are no test images, and the zoo stores no outputs of this member; evaluate it with: mvp-edge eval"


def measured_accuracy(
    logits: Tensor, test: ImageSet, before: Tensor | None, source: str | None, coarse: float | None = None
) -> tuple[AccuracyRecord, list[str]]:
    """Return the accuracy on test images, and warnings if fine-tuning made it worse or tiny thumbnails give as much.

    Test images choose nothing: a network that fine-tuning has made worse is delivered, with the warning.

    Args:
        logits: Logits of the delivered file `(N, C)`.
        test: The test images.
        before: Logits of the network before fine-tuning, if it was fine-tuned.
        source: Name of the data.
        coarse: Balanced accuracy of a linear classifier on tiny thumbnails, on the same images.
    """
    now, then, warnings = accuracy(logits, test), None, []
    if before is not None:
        then = round(accuracy(before, test).top1, 2)
        if harmed(before, logits, test.labels):
            warnings.append(
                f"fine-tuning made the model worse: top-1 is {now.top1:.1f} %, and was {then:.1f} % before, on "
                "the same test images; train for longer with --iterations, or not at all with --iterations 0"
            )
    record = _record(now, f"{source}, test split, delivered ONNX file", then)
    if record.n >= JUDGED_IMAGES and record.balanced is not None:
        warnings += thumbnail_warning(coarse, len(record.per_class), record.balanced)
    return record, warnings


def harmed(before: Tensor, after: Tensor, labels: Tensor) -> bool:
    """Return whether fine-tuning lost significantly more of the same test images than it won.

    One-sided exact binomial test at 5 %: if fine-tuning had no effect, each image on which the two differ would be lost
    or won with equal probability.

    Args:
        before: Logits `(N, C)` before fine-tuning.
        after: Logits `(N, C)` after it.
        labels: `(N,)`.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947.
    """
    from scipy.stats import binomtest

    was, now = (logits.argmax(1) == labels for logits in (before, after))
    lost, won = int((was & ~now).sum()), int((now & ~was).sum())
    return lost > 0 and float(binomtest(lost, lost + won, alternative="greater").pvalue) < 1 - CONFIDENCE


def base_accuracy(
    whole: Path, base: Base, task: Task, logits: Tensor, test: ImageSet, seed: int
) -> BaseAccuracyRecord | None:
    """Return the accuracy of the base on at most `BASE_IMAGES` test images, restricted to the task's classes.

    Args:
        whole: The base model as an ONNX file.
        base: Its description.
        task: The classes.
        logits: Logits of the delivered file for all test images.
        test: The test images.
        seed: Seed of the choice of images.

    Returns:
        It, with the accuracy of the delivered file on the same images; None if the base does not know all classes in
        the sense that is meant.
    """
    known = wordnet.resolve_names(base.classes)
    if task.unknown_to(known):
        return None
    column = numbered(known.names)
    wanted = [column[canonical(n)] for n in task.names]
    some = base_sample(test, seed)
    part = test.subset(some)
    return base_record(predict_file(whole, part)[:, wanted], logits[some], part)


def base_sample(test: ImageSet, seed: int) -> np.ndarray:
    """Return the positions of the test images that the base is tried on."""
    return rng(seed, "base").permutation(len(test))[:BASE_IMAGES]


def base_record(base: Tensor, own: Tensor, images: ImageSet) -> BaseAccuracyRecord:
    """Return the accuracy of the base and of the delivered file, from the logits `(N, C)` of both for some images."""
    whole, model = accuracy(base, images), accuracy(own, images)
    return BaseAccuracyRecord(top1=round(whole.top1, 2), n=whole.n, model_top1=round(model.top1, 2))


def predict_file(file: Path, images: ImageSet) -> Tensor:
    """Return the logits of an ONNX file for images `(N, outputs)`."""
    return torch.as_tensor(OnnxClassifier(file, torch.get_num_threads()).predict(images.images.numpy()))


def stored_accuracy(zoo: Zoo, task: Task, member: MemberInfo) -> AccuracyRecord | None:
    """Return the accuracy of a member as it is on the test images of its data, from its stored outputs.

    Raises:
        ZooError: its stored outputs are damaged.
    """
    outputs = zoo.outputs(member)
    if outputs is None:
        return None
    part = outputs.of(task.names, member.task.names)
    data = member.recipe.get("data", "its data")
    source = f"{data}, test split, from the stored outputs of member {member.id}, which this model is"
    return _record(score(part.logits, part.labels, task.names), source)


def unknown_accuracy() -> AccuracyRecord:
    """Return the record of an accuracy that is unknown."""
    return AccuracyRecord(
        top1=None, n=0, interval=None, per_class={}, confusion=(), top1_before=None, source=UNKNOWN
    )  # fmt: skip


def ready_made_sizes(zoo: Zoo, task: Task, ranked: Sequence[Neighbour]) -> tuple[SizeRecord, ...]:
    """Return the ready-made models for a task whose accuracy is known, smallest first.

    Raises:
        ZooError: a member's stored outputs are damaged.
    """
    found = []
    for info in (n.info for n in reversed(knowing(ranked, task))):
        known = stored_accuracy(zoo, task, info)
        if known is not None and known.top1 is not None:
            achieved = round(info.plan.achieved, 4)
            keep = selecting_keep(info)
            flag = f"--keep {keep:g}"
            found.append(SizeRecord(member=info.id, flag=flag, keep=keep, achieved=achieved, top1=known.top1))
    return tuple(found)


def selecting_keep(member: MemberInfo) -> float:
    """Return the `--keep` that selects a member: the one it was made at, unless the channel multiple led far away."""
    made_at, achieved = member.recipe.get("keep"), member.plan.achieved
    if isinstance(made_at, int | float) and abs(achieved - made_at) <= ROUNDING:
        return float(made_at)
    return round(achieved, 3)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval, in percent, of `right` of `n` images.

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    from scipy.stats import binomtest

    low, high = binomtest(right, n).proportion_ci(CONFIDENCE, "wilson")
    return round(100 * float(low), 2), round(100 * float(high), 2)


def _record(found: Accuracy, source: str, before: float | None = None) -> AccuracyRecord:
    right = sum(row[i] for i, row in enumerate(found.confusion))
    interval = wilson(right, found.n) if found.n else None
    recalls = [value for value in found.per_class.values() if value is not None]
    balanced = round(sum(recalls) / len(recalls), 2) if recalls else None
    more = {"interval": interval, "top1_before": before, "source": source, "balanced": balanced}
    return AccuracyRecord.from_json(found.to_json() | more)
