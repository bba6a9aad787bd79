"""Predictions from a classifier in an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvp_edge.core.errors import ExportError
from mvp_edge.timing.session import open_session

if TYPE_CHECKING:
    from torch import Tensor

PREDICT_CHUNK = 256


class OnnxClassifier:
    """A classifier in an ONNX file, as `export_onnx` writes it.

    Attributes:
        labels: Class names in the order of the logits.
        input_size: Height and width in pixels that `predict` takes.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load `path`.

        Raises:
            ExportError: the file is missing, is no ONNX model, takes no RGB image, or does not name its classes.
        """
        self._session = open_session(path, threads)
        if self._session.channels != 3:
            raise ExportError(f"{path} takes images of {self._session.channels} channels; 3 (RGB) are required")
        self.input_size = self._session.input_size
        self.labels = _labels(path, self._session.metadata)
        width = self._session.runner.get_outputs()[0].shape[1:]
        if len(width) != 1 or (isinstance(width[0], int) and width[0] != len(self.labels)):
            raise ExportError(
                f"{path} gives outputs of shape {width} for its {len(self.labels)} labels; export it again"
            )

    def predict(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Return logits `(N, classes)` for uint8 RGB `images` `(N, 3, H, W)` on the CPU."""
        pixels = np.asarray(images)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (3, *self.input_size):
            raise ValueError(f"images are {pixels.dtype} {pixels.shape}; uint8 (N, 3, *{self.input_size}) is required")
        chunk = self._session.batch or PREDICT_CHUNK
        outputs = [self._logits(pixels[i : i + chunk]) for i in range(0, len(pixels), chunk)]
        return np.concatenate(outputs) if outputs else np.zeros((0, len(self.labels)), np.float32)

    def _logits(self, pixels: np.ndarray) -> np.ndarray:
        missing = (self._session.batch or len(pixels)) - len(pixels)
        images = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))  # a fixed batch must be filled up
        return self._session.run(self._session.feed(images))[: len(pixels)]


def _labels(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    try:
        labels = json.loads(metadata["labels"])
    except (KeyError, ValueError) as e:
        raise ExportError(f"{path} has no metadata `labels` (a JSON list of class names); use mvp-edge's own") from e
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ExportError(f"{path} has the metadata `labels` {labels!r}; a JSON list of class names is required")
    return tuple(labels)
