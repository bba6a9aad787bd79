"""The files of a ready-made body with the head of a class list. Nothing here needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper
from safetensors.numpy import save

from mvp_edge.config import InputFormat, PruneConfig
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.environment import own_version
from mvp_edge.core.errors import ExportError
from mvp_edge.core.packed import Stored, in_full
from mvp_edge.export.compact import halve, store_compactly
from mvp_edge.export.graph import last_gemm
from mvp_edge.export.named_head import attach_head, stored_head
from mvp_edge.export.static_int8 import quantise
from mvp_edge.models.plan import KeepPlan
from mvp_edge.names.known import Split, listed_logits
from mvp_edge.prune.expected import Request
from mvp_edge.timing.session import open_session, session_in_memory
from mvp_edge.zoo.bodies import Body, BodyZoo, Features

FILES = ("model.onnx", "labels.txt", "plan.json", "weights.safetensors", "report.json", "report.html")
TOLERANCE = 1e-3  # of a logit: float32 sums in another order


@dataclass(frozen=True, eq=False)
class Opened:
    """A body as it is delivered.

    Attributes:
        body: The body, or a form of one.
        stored: Its tensors as they are stored.
        graph: It as an ONNX model with logits of all classes, in the arithmetic that it is delivered in.
        features: What it sees in labelled pictures.
        threshold: Of `known`; None if there is to be no `known`.
    """

    body: Body
    stored: dict[str, Stored]
    graph: onnx.ModelProto
    features: Features
    threshold: float | None


def open_body(request: Request, body: Body, config: PruneConfig) -> Opened:
    """Read a body from its zoo.

    Raises:
        ZooError: one of its files is missing or damaged.
    """
    zoo, stored = request.zoo, request.zoo.stored(body)
    graph = zoo.graph(body, in_full(stored))
    if body.arithmetic == "int8":
        graph = quantise(graph, *zoo.rounding(body))
    features = zoo.features(body)
    threshold = None if features.few is None else threshold_of(request, body, config)
    return Opened(body, stored, graph, features, threshold)


def threshold_of(request: Request, body: Body, config: PruneConfig) -> float | None:
    """Return the threshold of `known` for so many listed classes of the base; None if there is to be no `known`."""
    return None if request.split is None or not config.unknown else body.threshold(len(request.split.listed))


def write_model(
    file: Path,
    opened: Opened,
    request: Request,
    kind: InputFormat,
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
) -> None:
    """Write a body with the head of the class list, its weights as they are stored, or in half precision.

    Raises:
        ExportError: the file cannot be written.
    """
    split = request.split or Split(request.resolution.groups, tuple(sorted(sum(request.resolution.groups, ()))), (), ())
    body, features = opened.body, opened.features
    model = attach_head(
        opened.graph, split, request.resolution.task.names, known_threshold=opened.threshold,
        temperature=body.temperature, few=features.few,
    )  # fmt: skip
    if precision == "fp16":
        halve(model)
    else:
        store_compactly(model, opened.stored | stored_rows(opened, split))
    write_file(model, file, request.zoo, body, kind, {} if precision == "fp32" else {"precision": precision})


def stored_rows(opened: Opened, split: Split) -> dict[str, Stored]:
    """Return the stored forms of the head's weights, by their names in the file."""
    weight = last_gemm(opened.graph.graph).input[1]
    if weight not in opened.stored or not opened.features.stored:
        return {}
    return stored_head(split, opened.stored[weight], *(opened.features.stored[k] for k in ("basis", "rows")))


def check(file: Path, opened: Opened, request: Request, relative: float = 0.0) -> float:
    """Compare the file with the body's logits of all classes on random pictures; return the largest difference.

    Raises:
        ExportError: they differ by more than float32's rounding and more than that share of the largest logit.
    """
    session, body, known = open_session(file), opened.body, opened.threshold is not None
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, body.pixels, body.pixels), np.uint8)
    whole = session_in_memory(opened.graph.SerializeToString())
    logits = np.asarray(whole.run(None, {"image": pixels.astype(np.float32) / 255})[0])
    found = session.runner.run(None, {session.input_name: session.feed(pixels)})
    worst = float(np.abs(found[0] - listed_logits(logits, request.resolution.groups)).max())
    allowed = max(TOLERANCE, relative * float(np.abs(logits).max()))
    if not worst <= allowed or (known and (found[1].shape != (len(pixels),) or not np.isfinite(found[1]).all())):
        raise ExportError(f"{file} and {body.id} differ by {worst:.2g}; do not use the file, and report this as a bug")
    return worst


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
    directory: Path, zoo: BodyZoo, body: Body, kept: KeepPlan | None, names: Sequence[str], rows: Sequence[int],
    weights: Mapping[str, np.ndarray],
) -> None:  # fmt: skip
    """Write labels, plan and weights, which load into the base's architecture with a head of so many rows.

    Args:
        directory: Where.
        zoo: Of the body.
        body: What the model is made of.
        kept: Which of the base's units it keeps; None if it keeps them all.
        names: Of the classes.
        rows: Rows of the head for each name.
        weights: By their names in torch; the head has these rows.
    """
    plan = {
        "format": 1, "base": dict(zoo.about), "body": body.id, "pixels": body.pixels, "achieved_keep": body.keep,
        "groups": [] if kept is None else kept.to_json()["groups"], "rows": list(rows),
    }  # fmt: skip
    write_atomically(directory / "labels.txt", "".join(f"{n}\n" for n in names).encode())
    write_atomically(directory / "plan.json", json.dumps(plan).encode())
    write_atomically(directory / "weights.safetensors", save({k: np.ascontiguousarray(v) for k, v in weights.items()}))


def take_rows(graph: onnx.ModelProto, weights: Mapping[str, np.ndarray], order: Sequence[int]) -> dict[str, np.ndarray]:
    """Return weights with only some rows of the graph's last layer, in this order."""
    head = last_gemm(graph.graph).input[1:]
    return {name: v[list(order)] if name in head else v for name, v in weights.items()}


def write_base(zoo: BodyZoo, body: Body, weights: Mapping[str, np.ndarray], path: Path) -> Path:
    """Write the base at its own pixels, given a body and its weights, which may be the base's; return the path."""
    base = zoo.bodies[0]
    own = weights if base.weights == body.weights else zoo.weights(base)
    path.write_bytes(zoo.graph(base, own).SerializeToString())
    return path
