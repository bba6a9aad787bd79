"""How good the delivered file is on test images, beside the base model and the network before it was fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet
from mvp_edge.export import OnnxClassifier
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import canonical, numbered
from mvp_edge.prune.outcome import Outcome
from mvp_edge.prune.tuning import harmed
from mvp_edge.report import Sample, image_uri
from mvp_edge.training.loop import accuracy

BASE_IMAGES = 200  # what the whole base model is asked about: it takes some thirty times as long as what is delivered
GALLERY = 6  # test images of each class in the report
NOTHING_TO_SAY = (
    "there are no test images, and the zoo stores no outputs of this member; evaluate it with: mvp-edge eval"
)


@dataclass(frozen=True)
class Evaluation:
    """What is known of a delivered file.

    Attributes:
        accuracy: As in the report; `top1` is None where nothing is known.
        base_accuracy: The whole base model on some of the test images, and the file on the same ones.
        warnings: What the user should know.
    """

    accuracy: dict[str, Any]
    base_accuracy: dict[str, float] | None = None
    warnings: Sequence[str] = ()


def evaluate(file: Path, whole: Path, outcome: Outcome, seed: int) -> Evaluation:
    """Return the accuracy of the delivered file on the test images, or what is known of it without any.

    Args:
        file: The delivered model.
        whole: The base model, exported.
        outcome: The run that made the file.
        seed: Of the images that the base model is asked about.
    """
    if outcome.test is not None:
        logits = _logits(file, outcome.test)
        score, warnings = _score(logits, outcome.test, outcome)
        return Evaluation(score, _base_score(whole, logits, outcome.test, outcome, seed), warnings)
    if outcome.known is not None:
        known = outcome.known.accuracy.to_json()
        return Evaluation({**known, "top1_before": None, "source": outcome.known.source})
    unknown = {"top1": None, "n": 0, "per_class": {}, "confusion": [], "top1_before": None, "source": NOTHING_TO_SAY}
    return Evaluation(unknown, warnings=(f"accuracy is unknown: {NOTHING_TO_SAY}",))


def gallery(file: Path, images: ImageSet) -> tuple[Sample, ...]:
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


def _logits(file: Path, images: ImageSet) -> Tensor:
    """Return what a file says of images `(N, outputs)`."""
    return torch.as_tensor(OnnxClassifier(file, torch.get_num_threads()).predict(images.images.numpy()))


def _score(logits: Tensor, test: ImageSet, outcome: Outcome) -> tuple[dict[str, Any], list[str]]:
    """Return the accuracy by the file's logits for the test images, and a warning where fine-tuning did harm.

    `top1_before` is that of the network before it was fine-tuned, on the same images. They only tell: nothing is chosen
    by them, so that a network that fine-tuning has made worse is delivered with a warning.
    """
    score, before, warnings = accuracy(logits, test), None, []
    if outcome.before is not None:
        before = round(accuracy(outcome.before, test).top1, 2)
        if harmed(outcome.before, logits, test.labels):
            warnings.append(
                f"fine-tuning made the model worse: top-1 is {score.top1:.1f} %, and was {before:.1f} % before, on "
                "the same test images; train for longer with --iterations, or not at all with --iterations 0"
            )
    source = f"{outcome.source}, test split, delivered ONNX file"
    return {**score.to_json(), "top1_before": before, "source": source}, warnings


def _base_score(
    whole: Path, logits: Tensor, test: ImageSet, outcome: Outcome, seed: int
) -> dict[str, float] | None:  # fmt: skip
    """Return what the whole base model scores on at most `BASE_IMAGES` test images when only the task's classes count.

    With it comes what the delivered file scores on these images, by its `logits` for all. None where the base does not
    know all classes in the sense that is meant.
    """
    classes = outcome.prunable.base.classes
    if outcome.task.unknown_to(wordnet.resolve_names(classes)):
        return None
    column = numbered(classes)
    wanted = [column[canonical(n)] for n in outcome.task.names]
    some = rng(seed, "base").permutation(len(test))[:BASE_IMAGES]
    part = test.subset(some)
    base, model = accuracy(_logits(whole, part)[:, wanted], part), accuracy(logits[some], part)
    return {"top1": round(base.top1, 2), "n": base.n, "model_top1": round(model.top1, 2)}
