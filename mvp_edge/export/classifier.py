"""A delivered ONNX classifier: its predictions, and the interface that an app is written against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mvp_edge.core.errors import ExportError
from mvp_edge.export.named_head import KNOWN, TEMPERATURE, THRESHOLD
from mvp_edge.timing.session import open_session

if TYPE_CHECKING:
    from torch import Tensor


PREDICT_CHUNK = 256


class OnnxClassifier:
    """A classifier in an ONNX file, as `export_onnx` writes it.

    Attributes:
        labels: Class names in the order of the logits.
        input_size: Height and width in pixels.
        temperature: What logits are divided by before the softmax.
        known_threshold: Score of the output `known` below which a picture shows none of the classes; None if the file
            has no such output.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Load `path`.

        Raises:
            ExportError: the file is missing, is not an ONNX model, does not accept RGB images, or does not name its
                classes.
        """
        self._session = open_session(path, threads)
        if self._session.channels != 3:
            raise ExportError(f"{path} takes images of {self._session.channels} channels; it must take 3 (RGB)")
        self.input_size = self._session.input_size
        self.labels = _labels(path, self._session.metadata)
        outputs = {o.name for o in self._session.runner.get_outputs()}
        self.temperature = _number(path, self._session.metadata, TEMPERATURE) or 1.0
        self.known_threshold = _number(path, self._session.metadata, THRESHOLD) if KNOWN in outputs else None
        width = self._session.runner.get_outputs()[0].shape[1:]
        if len(width) != 1 or (isinstance(width[0], int) and width[0] != len(self.labels)):
            raise ExportError(
                f"{path} has outputs of shape {width} but {len(self.labels)} labels; make it again with: mvp-edge prune"
            )

    def predict(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Return logits `(N, classes)` for uint8 RGB `images` `(N, 3, H, W)` on the CPU."""
        return self.outputs(images)[0]

    def outputs(self, images: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray | None]:
        """Return logits `(N, classes)` and `known` scores `(N,)`, if the file has them; arguments as for `predict`."""
        pixels = np.asarray(images)
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (3, *self.input_size):
            raise ValueError(f"images are {pixels.dtype} {pixels.shape}; uint8 (N, 3, *{self.input_size}) is required")
        chunk = self._session.batch or PREDICT_CHUNK
        parts = [self._run(pixels[i : i + chunk]) for i in range(0, len(pixels), chunk)]
        logits = np.concatenate([p[0] for p in parts]) if parts else np.zeros((0, len(self.labels)), np.float32)
        if self.known_threshold is None:
            return logits, None
        return logits, np.concatenate([p[1] for p in parts]) if parts else np.zeros(0, np.float32)

    def _run(self, pixels: np.ndarray) -> list[np.ndarray]:
        missing = (self._session.batch or len(pixels)) - len(pixels)
        images = np.pad(pixels, ((0, missing), (0, 0), (0, 0), (0, 0)))  # pads to a fixed batch
        names = None if self.known_threshold is not None else [self._session.runner.get_outputs()[0].name]
        found = self._session.runner.run(names, {self._session.input_name: self._session.feed(images)})
        return [part[: len(pixels)] for part in found]


def _number(path: Path, metadata: Mapping[str, str], name: str) -> float | None:
    try:
        return float(metadata[name]) if name in metadata else None
    except ValueError as e:
        raise ExportError(f"{path} has the metadata {name} {metadata[name]!r}; a number is required") from e


def _labels(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    try:
        labels = json.loads(metadata["labels"])
    except (KeyError, ValueError) as e:
        raise ExportError(
            f"{path} has no metadata `labels` (a JSON list of class names); use a file that mvp-edge made"
        ) from e
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise ExportError(f"{path} has the metadata `labels` {labels!r}; a JSON list of class names is required")
    return tuple(labels)


Layout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True)
class Interface:
    """The image input and the output of a classifier.

    Attributes:
        input_name: Name of the image input.
        dtype: `float32` (pixels in [0, 1]) or `uint8` (pixels in 0..255).
        layout: Order of the input's axes.
        size: Height and width in pixels.
        batch: Fixed batch size, or None for any.
        output_name: Name of the logits.
        labels: Class names in the order of the logits.
        temperature: What logits are divided by before the softmax.
        known_threshold: Score of the output `known` below which a picture shows none of the classes; None without it.
    """

    input_name: str
    dtype: str
    layout: Layout
    size: tuple[int, int]
    batch: int | None
    output_name: str
    labels: tuple[str, ...]
    temperature: float = 1.0
    known_threshold: float | None = None

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the input; None for a free batch."""
        return (self.batch, 3, *self.size) if self.layout == "NCHW" else (self.batch, *self.size, 3)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `preprocessing.json`."""
        height, width = self.size
        crop = "square" if height == width else f"rectangle of the aspect ratio {width}:{height}"
        return {
            "input": {
                "name": self.input_name,
                "dtype": self.dtype,
                "layout": self.layout,
                "shape": list(self.shape),
                "height": height,
                "width": width,
                "channels": "RGB",
                "range": [0, 255] if self.dtype == "uint8" else [0.0, 1.0],
            },
            "normalisation": {
                "inside_model": True,
                "rule": "feed plain pixels" + ("" if self.dtype == "uint8" else " divided by 255"),
            },
            "resize": {
                "rule": "cover and centre-crop",
                "steps": [
                    "turn the picture upright (EXIF) and lay it on white where it is transparent",
                    f"take the largest centred {crop}",
                    f"scale it to {width} x {height} pixels, bilinear with antialiasing (a triangle filter as wide as "
                    "the scale factor); a picture of that size is left as it is",
                ],
            },
            "output": {
                "name": self.output_name,
                "shape": [self.batch, len(self.labels)],
                "meaning": "logits in the order of `classes`; probabilities are softmax(logits"
                + (")" if self.temperature == 1 else f" / {self.temperature:g})"),
                "temperature": self.temperature,
            },
            "known": None
            if self.known_threshold is None
            else {
                "name": KNOWN,
                "shape": [self.batch],
                "threshold": self.known_threshold,
                "meaning": "a picture with a score below `threshold` shows none of the classes",
            },
            "classes": list(self.labels),
        }


def read_interface(path: Path) -> Interface:
    """Read the interface of an `.onnx` or `.ort` file.

    Raises:
        ExportError: it is not an image classifier with named classes, as `mvp-edge prune` makes.
    """
    session, classifier = open_session(path), OnnxClassifier(path)
    return Interface(
        input_name=session.input_name,
        dtype=np.dtype(session.dtype).name,
        layout="NCHW" if session.layout == "nchw" else "NHWC",
        size=session.input_size,
        batch=session.batch,
        output_name=session.runner.get_outputs()[0].name,
        labels=classifier.labels,
        temperature=classifier.temperature,
        known_threshold=classifier.known_threshold,
    )
