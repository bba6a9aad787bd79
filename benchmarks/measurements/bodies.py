"""The photograph zoo: ready-made bodies of a base at several pixels, with what labelled pictures say of each.

    python -m benchmarks bodies OUT --network ID=FILE --pictures DIR --told TEXT

Networks are those of `python -m benchmarks distil`. A zoo that is there keeps its bodies, but for those of the same id.
With `--change 0.5` a new network lies halfway between the bundled body of its id, which its training started from, and
what training made of it (WiSE-FT, Wortsman et al., 2022).
Labelled pictures `DIR/WNID/*`, none of which a network was trained on, give the accuracy by number of names and the
temperature of the softmax. The thresholds of `known` come from the labelled ones up to `--small` pixels, and beyond as
much from sharp photographs without labels, every `--leave-out`-th of `--sharp DIR`, weighed by how surely the base at
its own pixels sees a class; each directory counts alike. Pictures smaller than a network's are blurred to it, and score
lower: networks that learned from such pictures count them nevertheless, those with the base's own weights do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnxruntime as ort
import torch
from PIL import Image
from scipy.special import softmax
from torch import nn

from benchmarks import lite0
from benchmarks.command import Script, log
from benchmarks.measurements import teach
from mvp_edge.core.streams import rng
from mvp_edge.models.architectures import head_of
from mvp_edge.models.bases import BASE_FILE, Base
from mvp_edge.models.norms import fold
from mvp_edge.models.slicing import load_sliced
from mvp_edge.models.tensors import compress, deserialise, serialise
from mvp_edge.names.known import known_score, near_duplicates
from mvp_edge.prune.base_zoo import add_bodies, exported, write_body
from mvp_edge.training.interpolation import interpolate
from mvp_edge.zoo.bodies import BASE, Body
from mvp_edge.zoo.store import create_zoo

HEAD = "classifier"
SURE = 0.2  # probability below which a photograph is not taken to show a class
DIMENSIONS = 64  # of stored features, and of the compressed rows of unlisted classes
NAMES = (2, 3, 5, 10, 20, 50, 100)
LISTED = (1, 2, 3, 5, 8, 12, 20, 40, 80, 160, 320)
LISTS = 300
KEPT = 0.95
TEMPERATURES = np.geomspace(0.5, 3, 26)
# Logits of pictures, those that unlisted classes are weighed by, and how surely each shows each class: all `(N, C)`.
Shown = tuple[np.ndarray, np.ndarray, np.ndarray]


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
    script.add("--sharp", type=Path, required=True)
    script.add("--leave-out", type=int, default=20)
    script.add("--small", type=int, default=84, help="pixels of the labelled pictures")
    script.add("--each", type=int, default=20, help="pictures of a class")
    script.add("--told", required=True, help="what the labelled pictures are, in words")
    args = script.parse(argv)
    files, labels = pictures(args.pictures, args.each)
    log.info("%d labelled pictures of %d classes", len(files), len(set(labels.tolist())))
    sharp = teach.pictures(args.sharp)[:: args.leave_out]
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
    surely = softmax(logits_of(whole, lite0.LITE0, sharp), 1)
    surely[surely < SURE] = 0
    shown = np.eye(len(lite0.WNIDS))[labels]
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
        made, logits, nearly = make(args.out, body, network, base, files, labels)
        sets = [(logits, nearly(logits), shown)]
        if body.pixels > args.small:
            labelled = labelled_parts(body, sets[0], files, args.pictures)
            found = logits_of(network, base, sharp)
            sets = [*labelled, (found, nearly(found), surely)]
        bodies.append(replace(made, thresholds=thresholds(sets, near)))
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


def make(
    zoo: Path, body: Body, network: nn.Module, base: Base, files: Sequence[Path], labels: np.ndarray
) -> tuple[Body, np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Write a body's graph and features; return it with its logits of the labelled pictures, and what shortens them."""
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
    made = replace(
        write_body(zoo, body, network, model, stored, "int8-fine"),
        temperature=temperature(logits, labels),
        curve=curve(logits, labels),
    )
    return made, logits, partial(in_few, bias=bias, rows=low["rows"], few_bias=low["bias"])


def in_few(logits: np.ndarray, bias: np.ndarray, rows: np.ndarray, few_bias: np.ndarray) -> np.ndarray:
    """Return logits as `compressed` has them: a delivered file weighs unlisted classes by these."""
    return (logits - bias) @ rows @ rows.T + few_bias


def logits_of(network: nn.Module, base: Base, files: Sequence[Path]) -> np.ndarray:
    """Return a network's logits `(N, C)` of pictures."""
    head = head_of(network)
    features = seen(exported(network, base), files, base.input_size[0])
    return features @ head.weight.detach().numpy().T + head.bias.detach().numpy()


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


def labelled_parts(body: Body, pool: Shown, files: Sequence[Path], directories: Sequence[Path]) -> list[Shown]:
    """Return the labelled pictures of each directory apart; for the base's own weights only where they are sharp."""
    if body.weights != BASE:
        return parts(pool, files, directories)
    return parts(pool, files, [d for d in directories if short_side(f for f in files if d in f.parents) >= body.pixels])


def short_side(files: Iterable[Path]) -> float:
    """Return the median of the pixels of pictures' shorter sides."""
    sides = list[int]()
    for file in files:
        with Image.open(file) as image:
            sides.append(min(image.size))
    return median(sides)


def parts(pool: Shown, files: Sequence[Path], directories: Sequence[Path]) -> list[Shown]:
    """Return the pictures of each directory apart."""
    rows = [[i for i, file in enumerate(files) if directory in file.parents] for directory in directories]
    return [(pool[0][some], pool[1][some], pool[2][some]) for some in rows]


def thresholds(sets: Sequence[Shown], near: Sequence[tuple[int, int]]) -> tuple[tuple[int, float], ...]:
    """Return the `known` score that 95 % of pictures of listed classes reach, by the number of these classes.

    Scores are those of a delivered file.

    Args:
        sets: Pictures, each set counting alike.
        near: Classes that hardly differ.
    """
    found = []
    for listed, *each in zip(LISTED, *(scores_of_lists(*pictures, near) for pictures in sets), strict=True):
        joined = np.concatenate([scores for scores, _ in each])
        share = np.concatenate([weights / weights.sum() / len(each) for _, weights in each])
        order = np.argsort(joined)
        found.append((listed, round(float(joined[order][np.searchsorted(np.cumsum(share[order]), 1 - KEPT)]), 3)))
    return tuple(found)


def scores_of_lists(
    logits: np.ndarray, unlisted: np.ndarray, shown: np.ndarray, near: Sequence[tuple[int, int]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each number of `LISTED` the `known` scores of pictures of listed classes, and what each counts."""
    present, draw, found = np.flatnonzero(shown.sum(0) >= 1), rng(0, "thresholds"), []
    partners = {c: {b if a == c else a for a, b in near if c in (a, b)} for c in range(logits.shape[1])}
    for listed in LISTED:
        scores, weights = [], []
        for _ in range(LISTS // 3):
            some = draw.choice(present, min(listed, len(present) // 2 + 1), replace=False)
            others = np.setdiff1d(np.arange(logits.shape[1]), some)
            chosen = np.concatenate([some, draw.choice(others, listed - len(some), replace=False)])
            neutral = set().union(*(partners[int(c)] for c in chosen)) - set(chosen.tolist())
            surely = shown[:, chosen].sum(1)
            index = np.flatnonzero(surely)
            mixed = unlisted[index]
            mixed[:, chosen] = logits[np.ix_(index, chosen)]
            scores.append(known_score(mixed, chosen.tolist(), sorted(neutral)))
            weights.append(surely[index])
        found.append((np.concatenate(scores), np.concatenate(weights)))
    return found
