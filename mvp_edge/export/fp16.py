"""A classifier in half precision: half the bytes, with float32 at its input and output.

Processors without arithmetic for half precision, x86 among them, convert back to float32 as they go.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx

from mvp_edge.core.errors import ExportError
from mvp_edge.export.derived import write_derived
from mvp_edge.timing.session import open_session


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
    except (ValueError, RuntimeError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise ExportError(f"{source} cannot be converted to half precision ({reason}); go without it") from e
    write_derived(model, source, target, "fp16")
