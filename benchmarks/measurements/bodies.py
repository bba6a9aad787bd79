"""The photograph zoo: ready-made bodies of a base at several pixels, with what labelled pictures say of each.

    python -m benchmarks bodies OUT --network ID=FILE --pictures DIR --told TEXT

Networks are those of `python -m benchmarks distil`. A zoo that is there keeps its bodies, but for those of the same id.
With `--change 0.5` a new network lies halfway between the bundled body of its id, which its training started from, and
what training made of it (WiSE-FT, Wortsman et al., 2022).
Labelled pictures `DIR/WNID/*`, none of which a network was trained on, give the accuracy by number of names and the
temperature of the softmax. `python -m benchmarks known` adds what tells that a picture shows nothing listed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from benchmarks import lite0
from benchmarks.command import Script, log
from benchmarks.measurements import teach
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.streams import rng
from mvp_edge.core.words import in_short
from mvp_edge.models.architectures import head_of
from mvp_edge.models.bases import BASE_FILE, Base
from mvp_edge.models.norms import fold
from mvp_edge.models.slicing import load_sliced
from mvp_edge.models.tensors import compress, deserialise, serialise
from mvp_edge.names.known import near_duplicates
from mvp_edge.prune.base_zoo import add_bodies, exported, write_body
from mvp_edge.training.interpolation import interpolate
from mvp_edge.zoo.bodies import BASE, Body
from mvp_edge.zoo.store import create_zoo

HEAD = "classifier"
DIMENSIONS = 64  # of stored features
NAMES = (2, 3, 5, 10, 20, 50, 100)
LISTS = 300
TEMPERATURES = np.geomspace(0.5, 3, 26)


def main(argv: Sequence[str]) -> None:
    """Make the zoo."""
    script = Script("photographs", __doc__, command="bodies")
    script.add("out", type=Path)
    script.add("--network", action="append", default=[], metavar="ID=FILE")
    script.add(
        "--change", type=float, default=1.0, help="how much of what training changed a body that is there is kept"
    )
    script.add("--base-at", default="224,160,128", metavar="PIXELS,...", help="of a new zoo")
    script.add("--drop", action="append", default=[], metavar="ID", help="a body, with its forms, that leaves the zoo")
    script.add("--pictures", action="append", type=Path, required=True)
    script.add("--each", type=int, default=20, help="pictures of a class")
    script.add("--told", required=True, help="what the labelled pictures are, in words")
    args = script.parse(argv)
    files, labels = pictures(args.pictures, args.each)
    log.info("%d labelled pictures of %d classes", len(files), len(set(labels.tolist())))
    chosen: list[tuple[str, int, Path | None]] = []
    bodies, there = list[Body](), args.out / "zoo.json"
    if there.is_file():
        gone = {*args.drop, *(text.partition("=")[0] for text in args.network)}
        bodies = [b for b in every_body(args.out) if not {b.id, b.like} & gone]
    else:
        create_zoo(args.out, replace(lite0.LITE0, classes=lite0.WNIDS), fold(lite0.lite0()), "int8-fine")
        chosen += [(f"lite0-{p}", int(p), None) for p in args.base_at.split(",")]
    for text in args.network:
        name, _, file = text.partition("=")
        chosen.append((name, 0, Path(file)))
    stored = (args.out / BASE_FILE).read_bytes()
    whole = load_sliced(lite0.LITE0.arch, deserialise(stored)[0], len(lite0.WNIDS))
    near = near_duplicates(head_of(lite0.lite0()).weight.detach().numpy())
    for name, pixels, file in chosen:
        base, network, body = lite0.at(pixels), whole, Body(name, pixels, BASE, 0, 0)
        if file is not None:
            base, trained = lite0.load(file)
            recipe = json.loads(base.recipe)
            plan = recipe.pop("plan", None)
            weights = fold(trained).state_dict()
            if args.change < 1:
                weights = interpolate(lite0.body(name)[1].state_dict(), weights, args.change)
                recipe["change_kept"] = args.change
            body = Body(name, base.input_size[0], name, 0, 0, recipe=recipe)
            about = {}
            if plan is not None:
                about, body = {"plan": json.dumps(plan)}, replace(body, keep=plan["achieved_keep"])
            packed = compress(serialise(weights, "int8-fine", about))
            write(args.out / "weights" / f"{name}.safetensors.gz", packed)
            network = load_sliced(base.arch, deserialise(packed)[0], len(lite0.WNIDS))
        else:
            body = replace(body, recipe={"weights": lite0.LITE0.recipe})
        made = make(args.out, body, network, base, files, labels)
        bodies.append(made)
        log.info("%s: %d multiply-adds, %s", name, made.macs, made.curve)
    add_bodies(args.out, bodies, near, args.told)
    remove_others(args.out, bodies)


def every_body(zoo: Path) -> list[Body]:
    """Return the bodies and forms that a zoo describes."""
    return [Body.from_json(b) for b in json.loads((zoo / "zoo.json").read_text(encoding="utf-8"))["bodies"]]


def remove_others(zoo: Path, bodies: Sequence[Body]) -> None:
    """Remove the files of bodies and forms that a zoo no longer has."""
    wanted = {zoo / file for body in bodies for file in body.sha256}
    for directory in ("bodies", "features", "ranges", "weights"):
        for file in set((zoo / directory).glob("*.gz")) - wanted:
            file.unlink()


def pictures(directories: Sequence[Path], each: int) -> tuple[list[Path], np.ndarray]:
    """Return so many pictures of each class of each directory, spread evenly, and their classes."""
    columns = {wnid: i for i, wnid in enumerate(lite0.WNIDS)}
    files, labels = [], []
    for directory in directories:
        for folder in sorted(p for p in directory.iterdir() if p.name in columns):
            found = teach.pictures(folder)
            found = found[:: max(1, len(found) // each)][:each]
            files += found
            labels += [columns[folder.name]] * len(found)
    return files, np.array(labels)


def write(path: Path, data: bytes) -> None:
    """Write a file of the zoo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make(zoo: Path, body: Body, network: nn.Module, base: Base, files: Sequence[Path], labels: np.ndarray) -> Body:
    """Write a body's graph and features, and return it with what the labelled pictures say of it."""
    model = exported(network, base)
    features = seen(model, files, body.pixels)
    head = head_of(network)
    rows, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    low, logits = compressed(features, rows, bias), features @ rows.T + bias
    present = np.unique(labels)
    stored = {k: torch.from_numpy(v.astype(np.float32)) for k, v in low.items()}
    stored |= {
        "exact": torch.from_numpy(logits[:, present]),
        "exact_classes": torch.from_numpy(present.astype(np.int16)),
    }
    stored["labels"] = torch.from_numpy(labels.astype(np.int16))
    return replace(
        write_body(zoo, body, network, model, stored, "int8-fine"),
        temperature=temperature(logits, labels),
        curve=curve(logits, labels),
    )


def seen(model: onnx.ModelProto, files: Sequence[Path], pixels: int) -> np.ndarray:
    """Return the features `(N, D)` of pictures: what the last layer reads."""
    session_model = onnx.ModelProto()
    session_model.CopyFrom(model)
    gemm = session_model.graph.node[-1]
    session_model.graph.output.append(onnx.helper.make_empty_tensor_value_info(gemm.input[0]))
    session = ort.InferenceSession(session_model.SerializeToString())
    parts = []
    for start in range(0, len(files), 50):
        read = [teach.read(p, 2 * pixels) for p in files[start : start + 50]]
        if bad := [str(p) for p, image in zip(files[start : start + 50], read, strict=True) if image is None]:
            raise ConfigError(f"pictures that cannot be read would shift the labels of others: {in_short(bad)}")
        squares = [teach.squares(i, teach.centre(*i.size), (pixels,))[0] for i in read if i is not None]
        images = np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32) / 255
        parts.append(session.run([gemm.input[0]], {"image": images})[0])
    return np.concatenate(parts)


def compressed(features: np.ndarray, rows: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Return the few dimensions of features that explain most of the logits of these pictures (see `Features`)."""
    mean = features.mean(0)
    root = np.linalg.cholesky(np.cov(features.T) + 1e-4 * np.eye(len(mean)) * features.var())
    left, _, _ = np.linalg.svd(rows @ root, full_matrices=False)
    few = left[:, :DIMENSIONS]
    basis = few.T @ rows
    return {
        "basis": basis,
        "rows": few,
        "bias": bias + rows @ mean - few @ (basis @ mean),
        "coordinates": features @ basis.T,
    }


def lists_of(labels: np.ndarray, size: int, name: str) -> list[np.ndarray]:
    """Return random lists of classes that occur."""
    present, draw = np.unique(labels), rng(0, name)
    return [draw.choice(present, size, replace=False) for _ in range(LISTS)] if size <= len(present) else []


def curve(logits: np.ndarray, labels: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Return the mean percent right over random lists, by their number of names."""
    found = []
    for names in NAMES:
        right = []
        for chosen in lists_of(labels, names, f"curve {names}"):
            index = np.flatnonzero(np.isin(labels, chosen))
            right.append(float((chosen[logits[index][:, chosen].argmax(1)] == labels[index]).mean()))
        if right:
            found.append((names, round(100 * float(np.mean(right)), 2)))
    return tuple(found)


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature at which the softmax over random lists of five is most likely right (Guo et al., 2017)."""
    loss = np.zeros(len(TEMPERATURES))
    for chosen in lists_of(labels, 5, "temperature"):
        index = np.flatnonzero(np.isin(labels, chosen))
        place = np.searchsorted(np.sort(chosen), labels[index])
        few = logits[index][:, np.sort(chosen)]
        for i, t in enumerate(TEMPERATURES):
            scaled = few / t - (few / t).max(1, keepdims=True)
            loss[i] -= float(np.mean(scaled[np.arange(len(index)), place] - np.log(np.exp(scaled).sum(1))))
    return round(float(TEMPERATURES[loss.argmin()]), 3)
