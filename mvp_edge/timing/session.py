"""Opening an ONNX image model with ONNX Runtime, with one-line errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mvp_edge.core.errors import ExportError
from mvp_edge.core.words import in_short

Layout = Literal["nchw", "nhwc"]
DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
COLOURS = (1, 3, 4)
WARMUP_RUNS = 5


@dataclass(frozen=True)
class ImageSession:
    """A loaded model with one image input.

    Attributes:
        runner: The `onnxruntime.InferenceSession`.
        path: The file that it came from.
        input_name: Name of the image input.
        dtype: `float32` (pixels in [0, 1]) or `uint8`.
        layout: Whether colours come before the rows (`nchw`) or last (`nhwc`).
        batch: Fixed batch size, or None for any.
        channels: Number of colour channels.
        input_size: Height and width in pixels.
        metadata: The file's own key-value properties.
    """

    runner: Any
    path: Path
    input_name: str
    dtype: type[np.float32] | type[np.uint8]
    layout: Layout
    batch: int | None
    channels: int
    input_size: tuple[int, int]
    metadata: dict[str, str]

    def feed(self, pixels: np.ndarray) -> np.ndarray:
        """Return uint8 `pixels` `(N, C, H, W)` in the dtype and layout of the model's input."""
        images = pixels if self.layout == "nchw" else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        return images if self.dtype is np.uint8 else images.astype(np.float32) / np.float32(255)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the model's first output for the result of `feed`."""
        return self.runner.run(None, {self.input_name: images})[0]


def open_session(
    path: Path, threads: int = 1, cpus: Sequence[int] = (), profile_prefix: str | None = None
) -> ImageSession:
    """Load `path` for sequential execution on `threads` CPU threads.

    Args:
        path: An ONNX file.
        threads: Threads within an operator, the calling one included.
        cpus: One CPU per thread, from `choose_cpus`; all but the first, the caller's, are pinned here.
        profile_prefix: Prefix of the profile that the runtime writes.

    Raises:
        ExportError: the file is missing, is not an ONNX model, or has no usable `(N, C, H, W)` or `(N, H, W, C)` image
            input.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    if not path.is_file():
        inside = _models_in(path)
        found = f"one of its models: {in_short(inside)}" if inside else "an .onnx file, such as out/model.onnx"
        raise ExportError(f"{path} is not a file; give {found} from `mvp-edge prune`")
    # Imported here: the command line must start without it.
    import onnxruntime as ort

    options = _options(threads)
    if len(cpus) == threads > 1:
        # The runtime counts CPUs from 1.
        affinities = ";".join(str(cpu + 1) for cpu in cpus[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    try:
        runner = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime's errors share no other base class
        reason = str(e).removeprefix("[ONNXRuntimeError] : ").splitlines()[0]
        reason = "its content is something else, or damaged" if "INVALID_PROTOBUF" in reason else reason
        raise ExportError(f"{path} cannot be loaded as an ONNX model ({reason}); make one with: mvp-edge prune") from e
    metadata = dict(runner.get_modelmeta().custom_metadata_map)
    inputs = runner.get_inputs()
    found = ", ".join(f"{i.name}: {i.type}{i.shape}" for i in inputs) or "none"
    if len(inputs) != 1 or inputs[0].type not in DTYPES or len(inputs[0].shape) != 4:
        raise ExportError(
            f"{path} has the inputs [{found}]; it must have one float32 or uint8 image (N, C, H, W) or (N, H, W, C)"
        )
    batch, *sides = (d if isinstance(d, int) and d > 0 else None for d in inputs[0].shape)
    layout = _layout(sides)
    channels, *size = sides if layout == "nchw" else (sides[2], *sides[:2])
    stored = _stored_size(metadata)
    height, width = (known or (stored[i] if stored else None) for i, known in enumerate(size))
    if channels is None or height is None or width is None:
        raise ExportError(
            f"{path} has an image of free size ({found}) and no metadata `input_size` = [H, W]; "
            "export it with fixed channels, height and width"
        )
    dtype = DTYPES[inputs[0].type]
    return ImageSession(runner, path, inputs[0].name, dtype, layout, batch, channels, (height, width), metadata)


def session_in_memory(model: bytes, threads: int = 1) -> Any:
    """Return the `onnxruntime.InferenceSession` of a model that is in no file, for sequential execution as above."""
    import onnxruntime as ort

    return ort.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])


def random_feed(model: ImageSession, batch: int) -> np.ndarray:
    """Return random images as the input of `model`.

    Raises:
        ExportError: the file fixes another batch size.
    """
    if model.batch not in (None, batch):
        raise ExportError(
            f"{model.path} has the fixed batch size {model.batch}, not {batch}; use --batch {model.batch}"
        )
    pixels = np.random.default_rng(0).integers(0, 256, (batch, model.channels, *model.input_size), dtype=np.uint8)
    return model.feed(pixels)


def warm_up(model: ImageSession, images: np.ndarray) -> None:
    """Call the model a few times.

    Raises:
        ExportError: it fails.
    """
    try:
        for _ in range(WARMUP_RUNS):
            model.run(images)
    except Exception as e:  # ONNX Runtime's errors share no other base class
        raise ExportError(
            f"{model.path} fails on an image batch {images.shape}: {e}; give a file that mvp-edge made"
        ) from e


def _models_in(directory: Path) -> list[str]:
    """Return models of a result, an export or a family; the main one of a result alone."""
    patterns = ("model.onnx", "model.ort", "*/model.onnx", "*/model.ort")
    return next((found for p in patterns if (found := sorted(map(str, directory.glob(p))))), [])


def _options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # errors come as exceptions; the log would repeat them
    return options


def _layout(sides: Sequence[int | None]) -> Layout:
    """Return the layout of an image with these three sides, of which None is free."""
    return "nhwc" if sides[2] in COLOURS and sides[0] not in COLOURS else "nchw"


def _stored_size(metadata: dict[str, str]) -> tuple[int, int] | None:
    try:
        height, width = json.loads(metadata.get("input_size", ""))
    except (ValueError, TypeError):
        return None
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        return None
    return height, width
