"""Images in a report: test images of each class, the surest errors, and copies that were left out of the test."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from mvp_edge.config import PruneConfig
from mvp_edge.data import ImageSet
from mvp_edge.export import OnnxClassifier
from mvp_edge.prune.pictures import Pictures
from mvp_edge.prune.request import prune_command
from mvp_edge.report import Extras, Sample, image_uri

GALLERY = 6  # test images of each class in the report
ERRORS, SAME_ERRORS = 12, 3  # wrongly classified test images in the report, and of one confusion


def extras_of(file: Path, pictures: Pictures | None, logits: Tensor | None, config: PruneConfig) -> Extras:
    """Return what only the page shows: the command and, where it may, images.

    Args:
        file: The delivered model.
        pictures: All images of the run, if there are any.
        logits: Of the model for the test images, if there are any.
        config: Whether the page may show images.
    """
    extras = Extras(command=prune_command(config))
    if not config.thumbnails or pictures is None:
        return extras
    test = pictures.test
    return replace(
        extras,
        samples=() if test is None else gallery(file, test),
        errors=() if test is None or logits is None else surest_errors(logits, test),
        copies=tuple((image_uri(one), image_uri(other)) for one, other in pictures.copied),
    )


def gallery(file: Path, images: ImageSet) -> tuple[Sample, ...]:
    """Return the first images of each class with the predictions of the delivered model."""
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


def surest_errors(logits: Tensor, images: ImageSet) -> tuple[Sample, ...]:
    """Return the wrongly classified images of the highest confidence, at most `SAME_ERRORS` of one confusion.

    Args:
        logits: `(N, C)`.
        images: The test images.
    """
    sure, predicted = logits.softmax(1).max(1)
    wrong = (predicted != images.labels).nonzero().flatten()
    seen: Counter[tuple[int, int]] = Counter()
    chosen = []
    for i in wrong[sure[wrong].argsort(descending=True, stable=True)].tolist():
        confusion = int(images.labels[i]), int(predicted[i])
        seen[confusion] += 1
        if seen[confusion] <= SAME_ERRORS and len(chosen) < ERRORS:
            chosen.append(i)
    return tuple(
        Sample(
            image=image_uri(images.images[i]),
            true=images.classes[int(images.labels[i])],
            predicted=images.classes[int(predicted[i])],
            confidence=float(sure[i]),
            file=Path(images.files[i]).name if images.files else "",
        )
        for i in chosen
    )
