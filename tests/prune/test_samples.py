"""Test images that a report shows."""

from __future__ import annotations

import torch

from mvp_edge.data import ImageSet
from mvp_edge.prune.samples import SAME_ERRORS, surest_errors


def test_the_surest_mistakes() -> None:
    logits = torch.tensor([[0.0, 9, 0], [5, 0, 0], [0, 3, 0], [0, 7, 0], [0, 8, 0], [0, 0, 1]])
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    files = tuple(f"d/{i}.png" for i in range(6))
    images = ImageSet(torch.zeros(6, 3, 4, 4, dtype=torch.uint8), labels, ("a", "b", "c"), files=files)
    found = surest_errors(logits, images)
    assert [(e.file, e.true, e.predicted) for e in found] == [
        ("0.png", "a", "b"), ("4.png", "a", "b"), ("3.png", "a", "b"), ("5.png", "b", "c"),
    ]  # fmt: skip
    assert len(found) == SAME_ERRORS + 1
    assert found[0].confidence > 0.99
