"""Finishing a file that was derived from a delivered one: same interface and provenance, other precision."""

from __future__ import annotations

from pathlib import Path

import onnx

from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ExportError
from mvp_edge.export.graph import sort_nodes, tidy


def write_derived(model: onnx.ModelProto, source: Path, target: Path, precision: str) -> None:
    """Tidy `model`, give it the metadata of `source` and a `precision`, and write it.

    Raises:
        ExportError: it is no valid model, or the file cannot be written.
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
        raise ExportError(f"{source} has no valid {precision} form ({reason}); go without it") from e
    except OSError as e:
        raise ExportError(f"{target} cannot be written ({e.strerror or e}); choose another directory") from e
