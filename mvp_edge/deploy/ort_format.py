"""Conversion of ONNX files to ONNX Runtime's `.ort` format with onnxruntime's converter, and its verification."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from mvp_edge.core.errors import ExportError
from mvp_edge.deploy.targets import Needs
from mvp_edge.export import TOLERANCE, OnnxClassifier
from mvp_edge.export.classifier import Interface, read_interface
from mvp_edge.timing.session import open_session

IMAGES = 8
RELATIVE = TOLERANCE / 10  # `TOLERANCE` is for logits up to 10; rounding grows with them
SUFFIXES = {"Fixed": ".ort", "Runtime": ".with_runtime_opt.ort"}
REPLAY = "session.enable_saved_runtime_optimizations"


def fixed_batch(source: Path, target: Path, batch: int | None) -> Interface:
    """Write a copy of an ONNX file with a fixed batch size; None keeps the batch as it is.

    Returns:
        The interface of the copy.

    Raises:
        ExportError: it is not a classifier of `mvp-edge prune`.
    """
    from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_dim_param_fixed

    before = read_interface(source)
    model = onnx.load(str(source))
    free = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    if batch is not None and before.batch is None and free:
        make_dim_param_fixed(model.graph, free, batch)
        fix_output_shapes(model)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return read_interface(target)


def convert(folder: Path, needs: Needs) -> None:
    """Convert every `.onnx` file in `folder`, and write the required-operators configuration beside it.

    Raises:
        ExportError: ONNX Runtime cannot convert one of them.
    """
    try:
        with _quiet():
            from onnxruntime.tools import convert_onnx_models_to_ort as converter

            styles = [converter.OptimizationStyle[style] for style in needs.styles]
            converter.convert_onnx_models_to_ort(folder, folder, styles, target_platform=cast(Any, needs.platform))
    except Exception as e:  # the converter raises errors of any type
        raise ExportError(
            f"ONNX Runtime cannot convert the model ({str(e).splitlines()[0]}); make it again with: mvp-edge prune"
        ) from e
    for config in folder.glob("*.config"):
        # The converter writes paths of this machine into the file; they do not belong there.
        lines = [line for line in config.read_text().splitlines() if not line.startswith("# -")]
        config.write_text("\n".join(lines) + "\n")


def verify(path: Path, source: Path, exact: Path, seed: int = 0) -> float:
    """Compare a converted file with its ONNX file on random images.

    Args:
        path: The `.ort` file.
        source: Its ONNX file.
        exact: The float32 ONNX file. In another precision, rounding depends on how operators are fused; the converted
            file may differ from `source` by twice as much as `source` differs from `exact`.
        seed: Of the random images.

    Returns:
        The largest absolute difference between any two logits.

    Raises:
        ExportError: it is above `TOLERANCE`, above `RELATIVE` times the largest logit, and above twice the
            difference between `source` and `exact`.
    """
    pixels = random_images(source, seed)
    found = [OnnxClassifier(path).predict(pixels)]
    if SUFFIXES["Runtime"] in path.name:
        found.append(_replayed(path, pixels))
    return max(agreement(path, logits, pixels, source, exact) for logits in found)


def random_images(source: Path, seed: int = 0) -> np.ndarray:
    """Return uint8 images `(N, 3, H, W)` of a file's size."""
    size = OnnxClassifier(source).input_size
    return np.random.default_rng(seed).integers(0, 256, (IMAGES, 3, *size), dtype=np.uint8)


def agreement(
    path: Path, logits: np.ndarray, pixels: np.ndarray, source: Path, exact: Path, relative: float = RELATIVE
) -> float:
    """Compare the logits that a converted file gives of images with those of its ONNX file.

    `relative` is the allowed difference as a share of the largest logit; the rest is as for `verify`.
    """
    expected = OnnxClassifier(source).predict(pixels)
    worst = float(np.abs(logits - expected).max())
    cost = 0.0 if source == exact else float(np.abs(OnnxClassifier(exact).predict(pixels) - expected).max())
    allowed = max(TOLERANCE, relative * float(np.abs(expected).max()), 2 * cost)
    if not worst <= allowed:
        raise ExportError(
            f"{path.name} and {source.name} differ by {worst:.2g} on random images; at most {allowed:.2g} is allowed; "
            "do not use the file, and report this as a bug"
        )
    return worst


def _replayed(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the logits of a file with its saved optimisations applied, which is off by default."""
    import onnxruntime as ort

    model = open_session(path)
    options = ort.SessionOptions()
    options.add_session_config_entry(REPLAY, "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    runs = [session.run(None, {model.input_name: model.feed(image[None])})[0] for image in pixels]
    return np.concatenate([np.asarray(logits) for logits in runs])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converter's prints and logs, and the runtime's messages on stderr."""
    import onnxruntime as ort

    root = logging.getLogger()
    handlers, level = root.handlers[:], logging.root.manager.disable
    logging.disable(logging.INFO)
    ort.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the converter leaves files to the garbage collector
            yield
    finally:
        ort.set_default_logger_severity(2)
        logging.disable(level)
        root.handlers[:] = handlers  # importing the converter calls logging.basicConfig
