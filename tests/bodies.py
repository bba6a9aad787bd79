"""A zoo of ready-made bodies whose pictures are single colours: small networks, written by hand."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load, save
from torch import nn

from mvp_edge.models.architectures import head_of, new_model
from mvp_edge.names.known import norms
from mvp_edge.zoo.bodies import STEP, Body
from mvp_edge.zoo.store import create_zoo
from tests.bases import small_base

COLOURS = {
    "espresso": (0.2, 0.1, 0.0),
    "teapot": (0.9, 0.9, 0.9),
    "laptop": (0.5, 0.5, 0.5),
    "mountain bike": (0.9, 0.1, 0.1),
    "bicycle-built-for-two": (0.9, 0.1, 0.5),
    "beagle": (0.1, 0.5, 0.1),
    "collie": (0.5, 0.9, 0.1),
    "goldfish": (0.9, 0.5, 0.1),
    "banana": (0.9, 0.9, 0.1),
    "jay": (0.1, 0.1, 0.9),
}
RARE = "jay"  # of which there are too few labelled pictures to tell the accuracy from
PICTURES = {name: 4 if name == RARE else 20 for name in COLOURS}
DIMENSIONS = 4
WIDTH = 96  # of what the last layer reads
NOISE = {32: 0.0, 16: 0.1, 8: 40.0}  # of a body's classifier, by its pixels
SHARP = 20.0


def colours(names: list[str], seed: int = 0, spread: float = 0.05) -> np.ndarray:
    """Return a colour near that of each name, `(N, 3)`."""
    draw = np.random.default_rng(seed)
    return np.array([COLOURS[n] for n in names], np.float32) + draw.normal(0, spread, (len(names), 3)).astype(
        np.float32
    )


def pictures(names: list[str], pixels: int, seed: int = 0) -> np.ndarray:
    """Return an image `(N, 3, P, P)` in [0, 1] of a colour near that of each name."""
    return np.tile(colours(names, seed).clip(0, 1)[:, :, None, None], (1, 1, pixels, pixels))


def make_body_zoo(path: Path) -> Path:
    """Write a zoo of three bodies, the largest of which has the base's own weights, and return its path.

    That of 16 pixels has an INT8 form, and one with a codebook.
    """
    base = small_base("test_resnet", licence="Apache-2.0", classes=tuple(COLOURS))
    model = new_model(base.arch, len(COLOURS))
    head = head_of(model)
    assert isinstance(head, nn.Linear)
    centres = np.array(list(COLOURS.values()), np.float32)
    weight = np.zeros((len(COLOURS), head.in_features), np.float32)
    weight[:, :3] = 2 * SHARP * centres  # the nearest colour wins
    bias = -SHARP * (centres**2).sum(1)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    zoo = create_zoo(path, base, model, "float16")
    labels = [name for name in COLOURS for _ in range(PICTURES[name])]
    seen = colours(labels) @ np.eye(3, head.in_features, dtype=np.float32)
    bodies = [_write(path, pixels, weight, bias, seen, labels) for pixels in NOISE]
    bodies += [_int8(path, bodies[1]), _small(path, bodies[1])]
    value = json.loads((zoo.path / "zoo.json").read_text())
    value |= {"bodies": [b.to_json() for b in bodies], "near": [[0, 1]], "pictures": "pictures of colours"}
    (zoo.path / "zoo.json").write_text(json.dumps(value))
    return zoo.path


def _write(
    zoo: Path, pixels: int, weight: np.ndarray, bias: np.ndarray, seen: np.ndarray, labels: list[str]
) -> Body:  # fmt: skip
    own, name = "base" if pixels == max(NOISE) else f"tiny-{pixels}", f"tiny-{pixels}"
    rows = weight + np.random.default_rng(1).normal(0, NOISE[pixels], weight.shape).astype(np.float32)
    rows[:, DIMENSIONS:] = 0
    files = {"base.safetensors.gz": (zoo / "base.safetensors.gz").read_bytes()}
    if own != "base":
        files = {f"weights/{own}.safetensors.gz": gzip.compress(save({"fc.weight": rows, "fc.bias": bias}))}
    files[f"bodies/{name}.onnx.gz"] = gzip.compress(_graph(pixels, *weight.shape))
    few = np.eye(DIMENSIONS, weight.shape[1], dtype=np.float32)
    column = {n: i for i, n in enumerate(COLOURS)}
    number = np.array([column[n] for n in labels], np.int16)
    stored = {"basis": few, "rows": np.ascontiguousarray(rows @ few.T), "bias": bias, "coordinates": seen @ few.T}
    stored |= {"exact": seen @ rows.T + bias, "exact_classes": np.arange(len(COLOURS), dtype=np.int16)}
    mean = np.mean([np.pad(c, (0, weight.shape[1] - 3)) for c in COLOURS.values()], 0, dtype=np.float32)
    units = (rows - rows.mean(0)) / norms(rows - rows.mean(0))
    stored |= {"known.basis": few, "known.rows": np.ascontiguousarray(units @ few.T), "known.mean": mean}
    stored["known.bias"] = -units @ mean
    files[f"features/{name}.safetensors.gz"] = gzip.compress(save({**stored, "labels": number}))
    for file, data in files.items():
        (zoo / file).parent.mkdir(exist_ok=True)
        (zoo / file).write_bytes(data)
    guessed = (seen @ rows.T + bias).argmax(1)
    right = 100 * float((guessed == number).mean())
    return Body(
        name, pixels, own, macs=pixels**2 * 1000, params=1000 + pixels, curve=((2, right), (10, right / 2)),
        thresholds=((1, 15.0), (10, 20.0)), sha256={k: hashlib.sha256(v).hexdigest() for k, v in files.items()},
        recipe={"crops_seen": 100, "start": {"crops_seen": 20}},
    )  # fmt: skip


def _form(zoo: Path, body: Body, kind: str, files: dict[str, bytes], lost: float) -> Body:
    """Write a form that sees the pictures as its body does, but for the logit of the first class."""
    exact = np.zeros((sum(PICTURES.values()), len(COLOURS)), np.int8)
    exact[:, 0] = round(lost / STEP)
    change = {"exact": exact, "coordinates": np.zeros((len(exact), DIMENSIONS), np.int8)}
    files = {**files, f"features/{body.id}-{kind}.safetensors.gz": gzip.compress(save(change))}
    for file, data in files.items():
        (zoo / file).parent.mkdir(exist_ok=True)
        (zoo / file).write_bytes(data)
    sums = {k: hashlib.sha256(v).hexdigest() for k, v in files.items()}
    return replace(body, id=f"{body.id}-{kind}", like=body.id, sha256={**body.sha256, **sums}, recipe={})


def _int8(zoo: Path, body: Body) -> Body:
    ranges = {"image": [0, 1], "wide": [0, 1]}
    stored = {"ranges": np.array(list(ranges.values()), np.float32), "widen.bias": np.zeros(WIDTH, np.float16)}
    files = {f"ranges/{body.id}-int8.safetensors.gz": gzip.compress(save(stored, {"tensors": json.dumps([*ranges])}))}
    return replace(_form(zoo, body, "int8", files, 0.2), arithmetic="int8")


def _small(zoo: Path, body: Body) -> Body:
    """Write a form whose classifier has one code for two weights."""
    tensors = load(gzip.decompress((zoo / f"weights/{body.weights}.safetensors.gz").read_bytes()))
    weight = tensors["fc.weight"]
    book, codes = np.unique(weight.reshape(-1, 2), axis=0, return_inverse=True)
    stored = {
        "fc.weight": codes.astype(np.uint8).reshape(len(weight), -1), "fc.weight:book": book.astype(np.float32),
        "fc.weight:scale": np.ones(len(weight), np.float32),
    }  # fmt: skip
    data = gzip.compress(save(stored, {"fc.weight": json.dumps(weight.shape)}))
    form = _form(zoo, body, "small", {f"weights/{body.id}-small.safetensors.gz": data}, -12.0)
    return replace(form, weights=form.id, curve=((2, 50.0), (10, 40.0)))


def _graph(pixels: int, classes: int, width: int) -> bytes:
    nodes = [
        helper.make_node("Conv", ["image", "widen.weight", "widen.bias"], ["wide"], "widen"),
        helper.make_node("GlobalAveragePool", ["wide"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("Gemm", ["features", "fc.weight", "fc.bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes, "body",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, pixels, pixels])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [
            numpy_helper.from_array(np.eye(width, 3, dtype=np.float32).reshape(width, 3, 1, 1), "widen.weight"),
            numpy_helper.from_array(np.zeros(width, np.float32), "widen.bias"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"input_size": f"[{pixels}, {pixels}]", "input_format": "float32-nchw"})
    return model.SerializeToString()


def rewrite(zoo: Path, file: str, data: bytes) -> None:
    """Write other bytes into a file of a zoo, and their checksum into its bodies."""
    (zoo / file).write_bytes(data)
    value = json.loads((zoo / "zoo.json").read_text())
    bodies = [Body.from_json(b) for b in value["bodies"]]
    checksum = hashlib.sha256(data).hexdigest()
    changed = [replace(b, sha256={k: checksum if k == file else v for k, v in b.sha256.items()}) for b in bodies]
    (zoo / "zoo.json").write_text(json.dumps(value | {"bodies": [b.to_json() for b in changed]}))
