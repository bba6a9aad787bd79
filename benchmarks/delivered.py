"""Results of `prune` that measurements are given: what they are called, and pictures of the size that they take."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvp_edge.data.images import decode_all
from mvp_edge.deploy.result import Result
from mvp_edge.export import OnnxClassifier

IMAGES = 100


def name_of(result: Result) -> str:
    """Return the name of the body that a result was made of, or of the base that it was cut from."""
    return result.report.body.id if result.report.body else result.base.name


def pictures_for(result: Result, directory: Path) -> np.ndarray:
    """Return uint8 images `(N, 3, H, W)`: about `IMAGES` of a directory's pictures, evenly spread over its files."""
    files = sorted(p for p in directory.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = files[:: max(1, len(files) // IMAGES)][:IMAGES]
    size = OnnxClassifier(result.models["fp32"]).input_size
    return np.asarray(decode_all(files, range(len(files)), size).images)
