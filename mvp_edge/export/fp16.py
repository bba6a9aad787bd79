"""A classifier in half precision: half the bytes, with float32 at its input and output.

Processors without arithmetic for half precision, x86 among them, convert back to float32 as they go.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx

from mvp_edge.atomic import write_atomically
from mvp_edge.errors import ExportError
from mvp_edge.export.graph import tidy
from mvp_edge.onnx_session import open_session


def convert_fp16(source: Path, target: Path) -> None:
    """Write `source` in half precision to `target`; input, output and metadata stay as they are.

    Args:
        source: A float32 file of `export_onnx`.
        target: File to write; it appears complete or not at all.

    Raises:
        ExportError: the file cannot be read, converted or written.
    """
    open_session(source)  # says in one line what is wrong with the file
    # Imported here: it takes a while that the commands without it need not pay.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a warning for every weight too small for half precision
            model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
        tidy(model)
        onnx.helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | {"precision": "fp16"})
        onnx.checker.check_model(model)
    except (ValueError, RuntimeError, onnx.checker.ValidationError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise ExportError(f"{source} cannot be converted to half precision ({reason}); go without it") from e
    try:
        write_atomically(target, model.SerializeToString(deterministic=True))
    except OSError as e:
        raise ExportError(f"{target} cannot be written ({e.strerror or e}); choose another directory") from e
