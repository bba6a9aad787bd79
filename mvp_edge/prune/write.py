"""The files of a ready-made body with the head of a class list. Nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors.numpy import save

from mvp_edge.config import InputFormat
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.environment import own_version
from mvp_edge.core.errors import ExportError
from mvp_edge.zoo.bodies import Body, BodyZoo

FILES = ("model.onnx", "labels.txt", "plan.json", "weights.safetensors", "report.json", "report.html")


def write_file(
    model: onnx.ModelProto, file: Path, zoo: BodyZoo, body: Body, kind: InputFormat, more: Mapping[str, str]
) -> None:
    """Write a body with its head: with the input that is wanted, and metadata about where it is from.

    Args:
        model: Result of `attach_head`; changed in place.
        file: To write.
        zoo: Of the body.
        body: What the model is made of.
        kind: Of its input.
        more: Further metadata.

    Raises:
        ExportError: the file cannot be written.
    """
    if kind == "uint8-nhwc":
        from_bytes(model.graph)
    model.producer_name, model.producer_version = "mvp-edge", own_version()
    own = {
        "input_size": json.dumps([body.pixels, body.pixels]), "input_format": kind,
        "producer": f"mvp-edge {own_version()}", "base": zoo.base, "zoo": zoo.name, "body": body.id, **more,
    }  # fmt: skip
    helper.set_model_props(model, {**{p.key: p.value for p in model.metadata_props}, **own})
    try:
        write_atomically(file, model.SerializeToString(deterministic=True))
    except OSError as e:
        raise ExportError(f"{file} cannot be written ({e.strerror or e}); choose another directory with --out") from e


def from_bytes(graph: onnx.GraphProto) -> None:
    """Let a graph take uint8 images `(N, H, W, 3)` in place of float32 `(N, 3, H, W)`, in place."""
    (image,) = graph.input
    batch, _, height, width = (d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim)
    for node in graph.node:
        node.input[:] = ["pixels" if name == image.name else name for name in node.input]
    nodes = [
        helper.make_node("Transpose", [image.name], ["turned"], "turned", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["bytes"], "bytes", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["bytes", "per_byte"], ["pixels"], "pixels"),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([1 / 255], np.float32), "per_byte"))
    graph.input.remove(image)
    graph.input.append(helper.make_tensor_value_info(image.name, onnx.TensorProto.UINT8, [batch, height, width, 3]))
    rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])


def write_parts(
    directory: Path, zoo: BodyZoo, body: Body, names: Sequence[str], rows: Sequence[int],
    weights: Mapping[str, np.ndarray],
) -> None:  # fmt: skip
    """Write labels, plan and weights, which load into the base's architecture with a head of so many rows.

    Args:
        directory: Where.
        zoo: Of the body.
        body: What the model is made of.
        names: Of the classes.
        rows: Rows of the head for each name.
        weights: By their names in torch; the head has these rows.
    """
    plan = {
        "format": 1, "base": dict(zoo.about), "body": body.id, "pixels": body.pixels,
        "achieved_keep": body.keep, "groups": [], "rows": list(rows),
    }  # fmt: skip
    write_atomically(directory / "labels.txt", "".join(f"{n}\n" for n in names).encode())
    write_atomically(directory / "plan.json", json.dumps(plan).encode())
    write_atomically(directory / "weights.safetensors", save({k: np.ascontiguousarray(v) for k, v in weights.items()}))


def take_rows(graph: onnx.ModelProto, weights: Mapping[str, np.ndarray], order: Sequence[int]) -> dict[str, np.ndarray]:
    """Return weights with only some rows of the graph's last layer, in this order."""
    last = next(n for n in reversed(graph.graph.node) if n.op_type == "Gemm")
    return {name: v[list(order)] if name in last.input[1:] else v for name, v in weights.items()}


def write_base(zoo: BodyZoo, body: Body, weights: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write the base at its own pixels, given a body and its weights, which may be the base's; return the path."""
    base = zoo.bodies[0]
    own = weights if base.weights == body.weights else zoo.weights(base)
    path.write_bytes(zoo.graph(base, own).SerializeToString())
    return path
