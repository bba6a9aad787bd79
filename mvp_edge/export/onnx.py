"""One self-contained ONNX file from a classifier, verified against the network.

The TorchScript path of `torch.onnx.export` (`dynamo=False`) is used because it is faster. Export and check of a
ResNet-18 with 8, 16, 24 and 48 channels (torch 2.15, one thread of a busy x86 machine, first call in a process, two
runs each):

| path | seconds | bytes (4 x parameters: 420,148) |
|---|---|---|
| `dynamo=True, external_data=False` | 3.3, 2.7 | 517,177 before its metadata is stripped |
| `dynamo=False` | 0.16, 0.22 | 428,825 |

Both fold batch norms into convolutions, also grouped ones. Torch's deprecation warning for the older path is silenced
below.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from mvp_edge.config import InputFormat
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.environment import own_version
from mvp_edge.core.errors import ExportError
from mvp_edge.export.attention import for_phones
from mvp_edge.export.fixed_sizes import FixedSizes
from mvp_edge.export.graph import fold_normalisation, name_by_module, tidy
from mvp_edge.export.padding import fixed_padding, fold_padding
from mvp_edge.timing.session import open_session

# Absolute. Members and base of the ResNet zoo and a MobileNetV2, with logits up to 10, differ by at most 1.1e-5. Deep
# networks with large logits may differ by more through float32's rounding alone: by several times the rounding error of
# one of the two, which is estimated from few logits.
TOLERANCE = 1e-4
ROUNDING_TIMES = 10
OPSET = 18
BATCHES = 1, 7  # of the comparison: two sizes show that the batch is free
RESERVED = ("labels", "input_size", "input_format", "producer")


class _FromPixels(nn.Module):
    """A network with the normalisation of RGB pixels inside."""

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float], full: float) -> None:
        super().__init__()
        self.model = for_phones(model)
        self.register_buffer("mean", full * torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / (full * torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1)))
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        return self.model((image - self.mean) * self.scale)


class _FromBytes(_FromPixels):
    """The same for uint8 images `(N, H, W, 3)`, as a camera or a decoder gives them."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.permute(0, 3, 1, 2).to(self.mean.dtype))


def export_onnx(
    model: nn.Module,
    path: Path,
    *,
    input_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    labels: Sequence[str],
    metadata: Mapping[str, str],
    input_format: InputFormat = "float32-nchw",
) -> None:
    """Write `model` to `path` as one ONNX file whose input is pixels.

    Input `image`: RGB, float32 `(batch, 3, H, W)` in [0, 1] or uint8 `(batch, H, W, 3)`, any batch size. Output
    `logits`: `(batch, classes)`. Batch norms are folded into the convolutions before them, and the normalisation of the
    image into the first one as far as that is exact. A convolution is not fused with the addition and the activation
    after it: runtimes do that when they load a file, each with its own operators. The same model gives the same bytes.

    Args:
        model: A classifier in eval mode, float32, on the CPU.
        path: File to write; it appears complete or not at all.
        input_size: Height and width in pixels.
        mean: Mean by colour channel, in [0, 1].
        std: Standard deviation by colour channel.
        labels: Class names in the order of the logits.
        metadata: Provenance, stored as key-value properties of the file.
        input_format: Type and layout of the image.

    Raises:
        ExportError: an operator has no ONNX form, or the file cannot be written.
    """
    if taken := sorted(set(metadata) & set(RESERVED)):
        raise ValueError(f"metadata {', '.join(taken)} is written by the exporter; use other names")
    _check_exportable(model)
    if input_format == "uint8-nhwc":
        wrapper = _FromBytes(model, mean, std, full=255)
        image = torch.zeros(2, *input_size, len(mean), dtype=torch.uint8)
    else:
        wrapper = _FromPixels(model, mean, std, full=1)
        image = torch.zeros(2, len(mean), *input_size)
    try:
        with torch.no_grad(), fixed_padding(wrapper), FixedSizes():
            classes = wrapper(image).shape[1:]
            proto = onnx.load_from_string(_trace(wrapper, image))
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as e:
        reason = (str(e).splitlines() or [""])[0]
        raise ExportError(f"{type(model).__name__} cannot be exported to ONNX opset {OPSET}: {reason}") from e
    if classes != (len(labels),):
        raise ValueError(f"the model gives outputs of shape {tuple(classes)} for {len(labels)} labels")
    tidy(proto)
    fold_padding(proto)
    fold_normalisation(proto.graph)
    name_by_module(proto.graph)
    tidy(proto)  # again, for what folding left unused
    proto.graph.name = "mvp_edge"
    proto.producer_name, proto.producer_version = "mvp-edge", own_version()
    own = (json.dumps(list(labels)), json.dumps(list(input_size)), input_format, f"mvp-edge {own_version()}")
    onnx.helper.set_model_props(proto, {**dict(zip(RESERVED, own, strict=True)), **metadata})
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as e:
        reason = (str(e).splitlines() or [""])[0]
        raise ExportError(f"{type(model).__name__} cannot be exported to ONNX opset {OPSET}: {reason}") from e
    try:
        write_atomically(path, proto.SerializeToString(deterministic=True))
    except OSError as e:
        raise ExportError(f"{path} cannot be written ({e.strerror or e}); choose another directory with --out") from e


def _check_exportable(model: nn.Module) -> None:
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in training mode; call eval() first")
    for name, tensor in model.named_parameters():
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}; float32 on the CPU is required")


def _trace(wrapper: nn.Module, image: Tensor) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), _silent_stdout():
        # The older path is deprecated (see the docstring of this module); sizes read as Python numbers are constants.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        warnings.filterwarnings("ignore", message="Constant folding")  # `fold_padding` does what it does not
        torch.onnx.export(
            wrapper,
            (image,),
            cast(Any, buffer),  # this path accepts any binary stream; the signature does not say so
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    return buffer.getvalue()


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """Hide what compiled code writes to the standard output: the whole graph where an operator cannot be exported."""
    sys.stdout.flush()
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(nothing)
        os.close(kept)


def verify_onnx(
    path: Path,
    model: nn.Module,
    input_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
) -> float:
    """Compare the file with the network on random 8-bit images.

    Args:
        path: A file of `export_onnx`.
        model: The network, in eval mode on the CPU.
        input_size: Height and width in pixels.
        mean: Mean by colour channel.
        std: Standard deviation by colour channel.

    Returns:
        The largest absolute difference between any two logits. It is above `TOLERANCE` only where float32's
        own rounding is.

    Raises:
        ExportError: the file cannot be run on such images, or the difference is above `TOLERANCE` and above
            `ROUNDING_TIMES` the network's own rounding error.
    """
    _check_exportable(model)
    session = open_session(path)
    generator = np.random.default_rng(0)
    worst, compared = 0.0, []
    for batch in BATCHES:
        pixels = generator.integers(0, 256, (batch, len(mean), *input_size), dtype=np.uint8)
        expected = _logits(model, pixels, mean, std, torch.float32)
        images = session.feed(pixels)
        try:
            found = session.run(images)
        except Exception as e:  # ONNX Runtime's errors share no other base class
            raise ExportError(f"{path} fails on an image batch {images.shape}: {e}; report this as a bug") from e
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("nan")
        compared.append((batch, pixels, expected, difference))
        worst = max(worst, difference)
    allowed = TOLERANCE
    if worst > TOLERANCE:  # over all batches, because a few logits may be rounded well by chance
        exact = copy.deepcopy(model).double()
        errors = (np.abs(e - _logits(exact, p, mean, std, torch.float64)).max() for _, p, e, _ in compared)
        allowed = max(TOLERANCE, ROUNDING_TIMES * float(max(errors)))
    for batch, _, expected, difference in compared:
        if not difference <= allowed:
            raise ExportError(
                f"{path} and the network differ by {difference:.2g} at batch {batch}, with logits of up to "
                f"{np.abs(expected).max():.3g}; at most {allowed:.2g} is allowed; do not use the file, and report "
                "this as a bug"
            )
    return worst


def _logits(
    model: nn.Module, pixels: np.ndarray, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> np.ndarray:
    """Return the network's logits for uint8 images `(N, C, H, W)`, computed in `dtype`."""
    shift, spread = (torch.tensor(v, dtype=torch.float32).to(dtype).view(1, -1, 1, 1) for v in (mean, std))
    with torch.no_grad():
        return model((torch.from_numpy(pixels).to(dtype) / 255 - shift) / spread).numpy()
