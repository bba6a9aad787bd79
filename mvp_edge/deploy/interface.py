"""What a deployed model takes and gives: the facts that an app's code is written against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mvp_edge.errors import ExportError

Layout = Literal["NCHW", "NHWC"]
DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


@dataclass(frozen=True)
class Interface:
    """The one image input and the one output of a classifier.

    Attributes:
        input_name: Name of the image input.
        dtype: `float32` (pixels in [0, 1]) or `uint8` (pixels in 0..255).
        layout: Order of the input's axes.
        size: Height and width in pixels.
        batch: Batch size that the file fixes, or None where it takes any.
        output_name: Name of the logits.
        labels: Class names in the order of the logits.
    """

    input_name: str
    dtype: str
    layout: Layout
    size: tuple[int, int]
    batch: int | None
    output_name: str
    labels: tuple[str, ...]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the input; None for a free batch."""
        return (self.batch, 3, *self.size) if self.layout == "NCHW" else (self.batch, *self.size, 3)

    def random(self, rng: np.random.Generator, images: int) -> np.ndarray:
        """Return random images in the model's own dtype and layout."""
        pixels = rng.integers(0, 256, (images, *[d or 1 for d in self.shape[1:]]), dtype=np.uint8)
        return pixels if self.dtype == "uint8" else pixels.astype(np.float32) / np.float32(255)

    def to_json(self) -> dict[str, Any]:
        """Return the facts as `preprocessing.json` holds them."""
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
                "meaning": "logits in the order of `classes`; their softmax are the probabilities",
            },
            "classes": list(self.labels),
        }


def read_interface(session: Any, path: Path) -> Interface:
    """Read the interface of a loaded model.

    Args:
        session: An `onnxruntime.InferenceSession`.
        path: The file that it came from, for messages.

    Raises:
        ExportError: it is no image classifier with named classes, as `mvp-edge prune` makes them.
    """
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type not in DTYPES or 3 not in (shape[1], shape[3]):
        found = ", ".join(f"{i.name}: {i.type}{i.shape}" for i in inputs) or "none"
        raise ExportError(f"{path} has the inputs [{found}]; one RGB image, float32 or uint8, is required")
    layout: Layout = "NCHW" if shape[1] == 3 else "NHWC"
    size = shape[2:] if layout == "NCHW" else shape[1:3]
    labels = _labels(session, path)
    if not all(isinstance(d, int) for d in size) or outputs[0].shape[-1] != len(labels):
        raise ExportError(
            f"{path} takes {shape} and gives {outputs[0].shape} for {len(labels)} labels; a fixed image size and a "
            "logit for each label are required, make it again with: mvp-edge prune"
        )
    batch = shape[0] if isinstance(shape[0], int) else None
    return Interface(
        inputs[0].name, DTYPES[inputs[0].type], layout, (size[0], size[1]), batch, outputs[0].name, labels
    )  # fmt: skip


def _labels(session: Any, path: Path) -> tuple[str, ...]:
    stored = session.get_modelmeta().custom_metadata_map.get("labels", "")
    try:
        labels = json.loads(stored)
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ExportError(f"{path} has no metadata `labels` (a JSON list of class names); use mvp-edge's own")
    return tuple(labels)
