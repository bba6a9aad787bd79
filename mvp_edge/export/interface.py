"""What a delivered model takes and gives: the facts that an app's code is written against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mvp_edge.export.classifier import OnnxClassifier
from mvp_edge.timing.session import open_session

Layout = Literal["NCHW", "NHWC"]


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


def read_interface(path: Path) -> Interface:
    """Read the interface of an `.onnx` or `.ort` file.

    Raises:
        ExportError: it is no image classifier with named classes, as `mvp-edge prune` makes them.
    """
    session = open_session(path)
    return Interface(
        input_name=session.input_name,
        dtype=np.dtype(session.dtype).name,
        layout="NCHW" if session.layout == "nchw" else "NHWC",
        size=session.input_size,
        batch=session.batch,
        output_name=session.runner.get_outputs()[0].name,
        labels=OnnxClassifier(path).labels,
    )
