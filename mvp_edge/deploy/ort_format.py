"""ONNX files to ONNX Runtime's own format, with onnxruntime's own converter, and the check that they agree."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mvp_edge.deploy.interface import Interface, read_interface
from mvp_edge.deploy.targets import Needs
from mvp_edge.errors import ExportError
from mvp_edge.export import TOLERANCE

IMAGES = 8
SUFFIXES = {"Fixed": ".ort", "Runtime": ".with_runtime_opt.ort"}
REPLAY = "session.enable_saved_runtime_optimizations"


def load(path: Path, entries: Mapping[str, str] | None = None) -> Any:
    """Return an `onnxruntime.InferenceSession` on one CPU thread.

    Raises:
        ExportError: the file is no model that ONNX Runtime can load.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong comes back as an exception; the log would say it twice
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime's errors share no base class but this one
        reason = str(e).splitlines()[0]
        raise ExportError(f"{path} cannot be loaded ({reason}); make it again with: mvp-edge prune --force") from e


def fixed_batch(source: Path, target: Path, batch: int | None) -> Interface:
    """Write a copy of an ONNX file that takes batches of one size only; None leaves the batch as it is.

    Returns:
        The interface of the copy.

    Raises:
        ExportError: it is no classifier as `mvp-edge prune` makes them.
    """
    from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_dim_param_fixed

    before = read_interface(load(source), source)
    model = onnx.load(str(source))
    free = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    if batch is not None and before.batch is None and free:
        make_dim_param_fixed(model.graph, free, batch)
        fix_output_shapes(model)
    target.write_bytes(model.SerializeToString(deterministic=True))
    return read_interface(load(target), target)


def convert(folder: Path, needs: Needs) -> None:
    """Convert every `.onnx` file in `folder`, beside it, and write the required-operators configuration.

    Raises:
        ExportError: ONNX Runtime cannot convert one of them.
    """
    try:
        with _quiet():
            from onnxruntime.tools import convert_onnx_models_to_ort as converter

            styles = [converter.OptimizationStyle[style] for style in needs.styles]
            converter.convert_onnx_models_to_ort(folder, folder, styles, target_platform=needs.platform)  # pyright: ignore[reportArgumentType]
    except Exception as e:  # the converter raises whatever it meets
        raise ExportError(f"ONNX Runtime cannot convert the model: {str(e).splitlines()[0]}") from e
    for config in folder.glob("*.config"):
        # The converter notes where the files lay on this machine, which is nobody's business.
        lines = [line for line in config.read_text().splitlines() if not line.startswith("# -")]
        config.write_text("\n".join(lines) + "\n")


def verify(path: Path, reference: Path, seed: int = 0) -> float:
    """Compare a converted file with the ONNX file of the result on random images.

    Returns:
        The largest absolute difference between any two logits.

    Raises:
        ExportError: it is above `TOLERANCE`, however large the logits are.
    """
    source = load(reference)
    wanted = read_interface(source, reference)
    images = wanted.random(np.random.default_rng(seed), IMAGES)
    expected = np.concatenate([source.run(None, {wanted.input_name: images[i : i + 1]})[0] for i in range(IMAGES)])
    worst = 0.0
    for entries in ({}, {REPLAY: "1"}) if SUFFIXES["Runtime"] in path.name else ({},):
        session = load(path, entries)
        runs = [session.run(None, {wanted.input_name: images[i : i + 1]})[0] for i in range(IMAGES)]
        difference = float(np.abs(np.concatenate(runs) - expected).max())
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{path.name} and {reference.name} differ by {difference:.2g} on random images; at most {TOLERANCE:g} "
                "is allowed, so the file must not be used; please report this"
            )
        worst = max(worst, difference)
    return worst


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the converter prints and logs, and what the runtime below it writes to stderr."""
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
