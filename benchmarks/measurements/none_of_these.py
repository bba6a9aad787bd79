"""How surely does a score tell pictures of listed classes from all others: softmax, energy, log odds, or `known`?

    python -m benchmarks none-of-these --base BASE.onnx --data DIR [--px 160] [--every 1] [--cache FILE.npz]

The base is an ONNX file with the 1,000 logits of ImageNet's classes for uint8 `(N, H, W, 3)` pictures. The pictures lie
in DIR; what one shows is the wnid in its file's name, else the name of its folder, as a wnid or a noun. Random lists of
five nouns that the base knows are scored; pictures of nouns that stand for a listed or a neutral class are left out of
the others. One threshold for all lists keeps 95 % of listed pictures. Others are counted by themselves where the base
knows no class for them (`foreign`). One record for each data set, in `results/measurements/none-of-these.jsonl`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from PIL import Image
from scipy.special import logsumexp
from scipy.stats import rankdata

from benchmarks.command import Script, log
from mvp_edge.core.errors import TaskError
from mvp_edge.names.base_classes import Resolution, resolve_to_base
from mvp_edge.names.known import known_score, known_threshold, listed_logits, near_duplicates, split_classes
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.names.wordnet import imagenet_classes

SUFFIXES = {".jpg", ".jpeg", ".png"}
BATCH = 50
WNID = re.compile(r"n\d{8}")


def main(argv: Sequence[str]) -> None:
    """Score the pictures of one data set and record the result."""
    script = Script("none-of-these", __doc__, "data")
    script.add("--base", type=Path, required=True)
    script.add("--px", type=int, default=160)
    script.add("--every", type=int, default=1, help="take every Nth picture")
    script.add("--lists", type=int, default=200)
    script.add("--ways", type=int, default=5)
    script.add("--cache", type=Path, help="keep the logits in this file")
    args = script.parse(argv)
    data = Path(args.data)
    files = sorted(p for p in data.rglob("*") if p.suffix.lower() in SUFFIXES)[:: args.every]
    logits = cached_logits(args.base, files, args.px, args.cache)
    pairs = near_duplicates(last_rows(args.base))
    result = measure(logits, [label(f) for f in files], pairs, args.lists, args.ways)
    config = {
        "base": args.base.name, "data": data.name, "px": args.px, "pictures": len(files), "lists": args.lists,
        "ways": args.ways, "pairs": len(pairs),
    }  # fmt: skip
    script.record(config, result)
    for name, value in result.items():
        log.info("%s: %s", name, value)


def label(file: Path) -> str:
    """Return what a picture shows, as a class list would have it."""
    found = WNID.match(file.name)
    return found[0] if found else file.parent.name


def cached_logits(base: Path, files: Sequence[Path], px: int, cache: Path | None) -> np.ndarray:
    """Return the logits of pictures, `(N, C)`, from a file if it holds those of the same pictures."""
    names = np.array([str(f) for f in files])
    if cache is not None and cache.exists():
        stored = np.load(cache)
        if np.array_equal(stored["files"], names) and int(stored["px"]) == px:
            return stored["logits"]
    session = ort.InferenceSession(str(base), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    parts = []
    for i in range(0, len(files), BATCH):
        parts.append(session.run(None, {image.name: np.stack([square(f, px) for f in files[i : i + BATCH]])})[0])
        log.info("%d of %d pictures", min(i + BATCH, len(files)), len(files))
    logits = np.concatenate(parts)
    if cache is not None:
        np.savez(cache, files=names, px=px, logits=logits)
    return logits


def square(file: Path, px: int) -> np.ndarray:
    """Return the largest centred square of a picture at `px` pixels, uint8 `(px, px, 3)`."""
    with Image.open(file) as picture:
        picture.draft("RGB", (px, px))
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        cropped = picture.convert("RGB").crop((left, top, left + side, top + side))
        return np.asarray(cropped.resize((px, px), Image.Resampling.BICUBIC))


def last_rows(base: Path) -> np.ndarray:
    """Return the weights of the last Gemm, `(C, D)`."""
    graph = onnx.load(str(base)).graph
    gemm = next(n for n in reversed(graph.node) if n.op_type == "Gemm")
    weight = next(numpy_helper.to_array(t) for t in graph.initializer if t.name == gemm.input[1])
    turned = any(a.name == "transB" and a.i for a in gemm.attribute)
    return weight if turned else weight.T


def measure(
    logits: np.ndarray, labels: Sequence[str], pairs: Sequence[tuple[int, int]], lists: int, ways: int
) -> dict[str, dict[str, float]]:
    """Return false accepts at 95 % of listed pictures kept and AUROC, in percent, of each score."""
    base, shown = imagenet_classes(), np.array(labels)
    stands: dict[str, Resolution | None] = {name: resolved([name], base) for name in sorted(set(labels))}
    classes = {name: set(r.groups[0]) if r is not None else set() for name, r in stands.items()}
    known = [name for name, own in classes.items() if own]
    foreign = np.array([not classes[name] for name in labels])
    rng, found = random.Random(0), {}
    while lists:
        resolution = resolved(rng.sample(known, ways), base)
        if resolution is None:
            continue
        lists -= 1
        split = split_classes(resolution, pairs)
        listed = np.isin(shown, resolution.task.names)
        near = [name for name in known if classes[name] & {*split.listed, *split.neutral}]
        other = ~listed & ~np.isin(shown, near)
        names = listed_logits(logits, split.groups)
        energy = logsumexp(names, axis=1)
        scores = {
            "softmax": np.exp(names.max(axis=1) - energy),
            "energy": energy,
            "known": known_score(logits, split.listed, split.neutral),
            "known, nothing neutral": known_score(logits, split.listed),
            "log odds": known_score(logits, split.listed, split.neutral, 1.0),
        }
        for name, score in scores.items():
            parts = found.setdefault(name, ([], [], []))
            for part, mask in zip(parts, (listed, other & ~foreign, other & foreign), strict=True):
                part.append(score[mask])
    return {name: rates(*map(np.concatenate, parts)) for name, parts in found.items()}


def resolved(names: Sequence[str], base: Task) -> Resolution | None:
    """Return what stands for the names of a list, or None if the base does not know them all apart."""
    try:
        result = resolve_to_base(Task(tuple(map(TaskClass, names))), base)
    except TaskError:
        return None
    return None if result.unknown else result


def rates(listed: np.ndarray, other: np.ndarray, foreign: np.ndarray) -> dict[str, float]:
    """Return false accepts of unlisted classes and of foreign pictures, and AUROC against both, in percent."""
    threshold = known_threshold(listed)
    values: Mapping[str, float] = {
        **({"false_accepts": 100 * float((other >= threshold).mean())} if len(other) else {}),
        **({"foreign_accepts": 100 * float((foreign >= threshold).mean())} if len(foreign) else {}),
        "auroc": 100 * auroc(listed, np.concatenate([other, foreign])),
    }
    return {name: round(value, 2) for name, value in values.items()}


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the share of pairs in which the positive one scores higher; ties count half."""
    ranks = rankdata(np.concatenate([positive, negative]))
    return float(ranks[: len(positive)].sum() / len(positive) - (len(positive) + 1) / 2) / len(negative)
