"""Test images in a report: some of each class, and the surest errors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from mvp_edge.data import ImageSet
from mvp_edge.export import OnnxClassifier
from mvp_edge.report import Sample, image_uri

GALLERY = 6  # test images of each class in the report
ERRORS, SAME_ERRORS = 12, 3  # wrongly classified test images in the report, and of one confusion


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
