"""A delivered classifier in another precision: half precision or 8-bit integers.

**Half precision**: half the bytes. Weights are cast when a runtime loads the file, which computes in float32.

**INT8**: static quantisation in ONNX's QDQ form, calibrated on the task's images. Weights are int8 with one scale per
output channel, activations uint8 with one scale per tensor, from the smallest and the largest value of the calibration
images. On eight members of the bundled zoo, that is as good as percentiles or entropy; int8 activations took 1.5 times
as long on x86. Not quantised are the normalisation of the image, and convolutions with fewer than `MIN_CHANNELS` output
channels with what is added to them: they hold few weights and are slower in integers (ResNet-18 with 8, 16, 24 and 48
channels, one thread: 0.95 of the float time with all layers quantised, 0.80 without the 8-channel ones).

Weights of transformers have seven bits: processors with AVX2 but without VNNI add pairs of products in 16 bits, which
those of eight overflowed (other classes for 8 of 24 pictures on an emulated Haswell; a ResNet-18's did not).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import onnx

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ExportError
from mvp_edge.export.compact import halve
from mvp_edge.export.graph import shorten_quantised, sort_nodes, tidy
from mvp_edge.timing.session import ImageSession, open_session


def write_derived(model: onnx.ModelProto, source: Path, target: Path, precision: str) -> None:
    """Tidy `model`, copy the metadata of `source`, set the metadata `precision`, and write it to `target`.

    Raises:
        ExportError: the model is invalid, or the file cannot be written.
    """
    original = onnx.load(source)
    tidy(model)
    sort_nodes(model.graph)
    model.graph.name = original.graph.name
    model.producer_name, model.producer_version = original.producer_name, original.producer_version
    onnx.helper.set_model_props(model, {p.key: p.value for p in original.metadata_props} | {"precision": precision})
    try:
        onnx.checker.check_model(model)
        write_atomically(target, model.SerializeToString(deterministic=True))
    except onnx.checker.ValidationError as e:
        reason = str(e).splitlines()[0]
        raise ExportError(f"{source} has no valid {precision} form ({reason}); use --precision fp32") from e
    except OSError as e:
        raise ExportError(f"{target} cannot be written ({e.strerror or e}); choose another directory with --out") from e


def convert_fp16(source: Path, target: Path) -> None:
    """Write `source` with weights in half precision to `target`; input, output and metadata stay as they are.

    Args:
        source: A float32 file of `export_onnx`.
        target: File to write; it appears complete or not at all.

    Raises:
        ExportError: the file cannot be read or written.
    """
    open_session(source)  # raises a one-line error for a damaged file
    model = onnx.load(source)
    halve(model)
    write_derived(model, source, target, "fp16")


CALIBRATION_IMAGES = 128
CALIBRATION_BATCH = 16
MIN_CHANNELS = 16
WEIGHTED = ("Conv", "Gemm", "MatMul")
# Quantising these keeps the residual stream of a convolutional network in integers. The residual stream of a
# transformer has outliers that one scale per tensor cannot represent, so only its matrix products are quantised.
BETWEEN = ("Add", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "AveragePool", "Concat", "Flatten", "Reshape")
TRANSFORMER = ("LayerNormalization", "Softmax")


def quantise_int8(source: Path, target: Path, images: np.ndarray) -> None:
    """Write `source` in 8-bit integers to `target`; input, output and metadata stay as they are.

    Args:
        source: A float32 file of `export_onnx`.
        target: File to write; it appears complete or not at all.
        images: uint8 RGB `(N, 3, H, W)`, for the ranges of the activations: real training images, or synthetic ones
            where there are none; `CALIBRATION_IMAGES` are enough.

    Raises:
        ExportError: the file cannot be read, quantised or written.
        ValueError: there are no images, or not of the model's size.
    """
    session = open_session(source)
    if images.dtype != np.uint8 or images.shape[1:] != (3, *session.input_size) or len(images) == 0:
        raise ValueError(f"images are {images.dtype} {images.shape}; uint8 (N, 3, *{session.input_size}) is required")
    with TemporaryDirectory() as scratch, _quiet():
        prepared, quantised = Path(scratch) / "prepared.onnx", Path(scratch) / "quantised.onnx"
        try:
            _quantise(source, prepared, quantised, _Reader(session, images))
            model = onnx.load(quantised)
        except Exception as e:  # the quantiser's errors share no base class but this one
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise ExportError(f"{source} cannot be quantised ({reason}); use --precision fp32") from e
    shorten_quantised(model.graph)
    write_derived(model, source, target, "int8")


def _quantise(source: Path, prepared: Path, quantised: Path, reader: _Reader) -> None:
    # Imported here, because it takes a second.
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    operators = {n.op_type for n in onnx.load(source).graph.node}
    transformer = bool(operators & set(TRANSFORMER))
    # The runtime's own inference of shapes fails at reductions whose axes are an input, as those of `known`.
    quant_pre_process(source, prepared, skip_symbolic_shape=not transformer)
    graph = onnx.load(prepared).graph
    quantize_static(
        prepared,
        quantised,
        cast(Any, reader),  # has the methods of a CalibrationDataReader
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=[*WEIGHTED, *(() if transformer else BETWEEN)],
        nodes_to_exclude=kept_float(graph),
        reduce_range=transformer,
    )


def kept_float(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes that stay in float: those on maps `(N, C, H, W)` of few channels.

    Args:
        graph: With inferred shapes.
    """
    shapes = {v.name: _dims(v) for v in (*graph.value_info, *graph.output)}
    return [n.name for n in graph.node if 0 < _channels(shapes.get(n.output[0], ())) < MIN_CHANNELS]


def _channels(shape: Sequence[int]) -> int:
    """Return the channels of a feature map, or 0 for another shape."""
    return shape[1] if len(shape) == 4 else 0


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


class _Reader:
    """Yields the calibration images in batches for `quantize_static`."""

    def __init__(self, session: ImageSession, images: np.ndarray) -> None:
        size = session.batch or CALIBRATION_BATCH
        if session.batch:  # the last batch is filled up with images from the start
            images = np.resize(images, (-(-len(images) // size) * size, *images.shape[1:]))
        parts = [images[i : i + size] for i in range(0, len(images), size)]
        self._feeds = iter([{session.input_name: session.feed(part)} for part in parts])

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self._feeds, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep `logging.warning` in the quantiser from installing a handler on the root logger."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
