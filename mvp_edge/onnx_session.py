"""Opening an ONNX image model with ONNX Runtime, or saying in one line why that is not possible."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvp_edge.errors import ExportError

DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class ImageSession:
    """A loaded model with one image input.

    Attributes:
        runner: The `onnxruntime.InferenceSession`.
        path: The file that it came from.
        input_name: Name of the image input.
        dtype: `float32` (pixels in [0, 1]) or `uint8`.
        batch: Batch size that the file fixes, or None where it takes any.
        channels: Number of colour channels.
        input_size: Height and width in pixels.
        metadata: The file's own key-value properties.
    """

    runner: Any
    path: Path
    input_name: str
    dtype: type[np.float32] | type[np.uint8]
    batch: int | None
    channels: int
    input_size: tuple[int, int]
    metadata: dict[str, str]

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the model's first output for `images` `(N, C, H, W)` of the right dtype."""
        return self.runner.run(None, {self.input_name: images})[0]


def open_session(path: Path, threads: int = 1) -> ImageSession:
    """Load `path` for sequential execution on `threads` CPU threads.

    Raises:
        ExportError: the file is missing, is no ONNX model, or has no usable `(N, C, H, W)` image input.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    if not path.is_file():
        raise ExportError(
            f"{path} is no file; give an .onnx file, such as the one that `mvp-edge prune` leaves in out/"
        )
    # Imported here: the command line must start without it.
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong comes back as an exception; the log would say it twice
    try:
        runner = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime's errors share no base class but this one
        reason = str(e).removeprefix("[ONNXRuntimeError] : ").splitlines()[0]
        raise ExportError(f"{path} cannot be loaded as an ONNX model ({reason}); make one with: mvp-edge prune") from e
    metadata = dict(runner.get_modelmeta().custom_metadata_map)
    inputs = runner.get_inputs()
    found = ", ".join(f"{i.name}: {i.type}{i.shape}" for i in inputs) or "none"
    if len(inputs) != 1 or inputs[0].type not in DTYPES or len(inputs[0].shape) != 4:
        raise ExportError(f"{path} has the inputs [{found}]; one float32 or uint8 image (N, C, H, W) is required")
    batch, channels, *size = (d if isinstance(d, int) and d > 0 else None for d in inputs[0].shape)
    stored = _stored_size(metadata)
    height, width = (known or (stored[i] if stored else None) for i, known in enumerate(size))
    if channels is None or height is None or width is None:
        raise ExportError(
            f"{path} leaves the size of its image open ({found}) and has no metadata `input_size` = [H, W]; "
            "export it with fixed channels, height and width"
        )
    dtype = DTYPES[inputs[0].type]
    return ImageSession(runner, path, inputs[0].name, dtype, batch, channels, (height, width), metadata)


def _stored_size(metadata: dict[str, str]) -> tuple[int, int] | None:
    try:
        height, width = json.loads(metadata.get("input_size", ""))
    except (ValueError, TypeError):
        return None
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        return None
    return height, width
