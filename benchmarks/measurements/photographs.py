"""How often is a network right about photographs by names alone, and does it notice pictures of nothing listed?

    python -m benchmarks photographs --zoo DIR --pictures samples=DIR --pictures caltech101=DIR [--trained DIR]...
    python -m benchmarks photographs --tflite FILE --pictures samples=DIR

A directory holds pictures `WNID_name.jpg`, `WNID/*` or `NAME/*`; pictures of names that the base does not know are
foreign. Every body of the zoo, and every form of one, is tested as it is delivered, on the same random lists of five
names. `--trained` names directories `WNID/*` of what the networks were trained on; lists of other names are told apart.
A TFLite file has 1,001 outputs, the background first; `pip install ai-edge-litert`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from scipy.stats import rankdata

from benchmarks.command import Script, log
from benchmarks.lite0 import WNIDS
from mvp_edge.core.errors import ConfigError, TaskError
from mvp_edge.core.streams import rng
from mvp_edge.data.images import decode_all
from mvp_edge.export.static_int8 import quantise
from mvp_edge.names.base_classes import resolve_to_base
from mvp_edge.names.known import class_cosines, known_score, listed_logits, split_classes
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.names.wordnet import imagenet_classes
from mvp_edge.zoo.bodies import Body, BodyZoo, open_bodies

WAYS, KEPT = 5, 0.95
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True, eq=False)
class Pictures:
    """Files, the number of the name that each shows (-1: foreign), and classes of the base for each name."""

    files: list[Path]
    labels: np.ndarray
    names: list[str]
    groups: list[tuple[int, ...]]


def read(directory: Path, every: int = 1) -> Pictures:
    """Return every so many pictures below a directory with what they show."""
    files = sorted(p for p in directory.rglob("*") if p.suffix.lower() in SUFFIXES)[::every]
    if not files:
        raise ConfigError(f"{directory} holds no pictures")
    shown = [p.name.split("_")[0] if p.parent == directory else p.parent.name for p in files]
    groups: dict[str, tuple[int, ...]] = {}
    for name in sorted(set(shown)):
        try:
            found = resolve_to_base(Task((TaskClass(name.replace("_", " "), None),)), imagenet_classes()).groups[0]
        except TaskError:  # several senses
            found = ()
        if found:
            groups[name] = found
    names = list(groups)
    labels = np.array([names.index(s) if s in groups else -1 for s in shown])
    return Pictures(files, labels, names, list(groups.values()))


def lists(pictures: Pictures, among: Sequence[int], count: int) -> list[np.ndarray]:
    """Return random lists of names without common classes."""
    draw, found = rng(1, "lists"), []
    while len(found) < count:
        chosen = draw.choice(among, WAYS, replace=False)
        if len({c for i in chosen for c in pictures.groups[i]}) == sum(len(pictures.groups[i]) for i in chosen):
            found.append(chosen)
    return found


def accuracy(logits: np.ndarray, pictures: Pictures, chosen: Sequence[np.ndarray]) -> float:
    """Return the mean percent right over lists, each name of a list counting the same."""
    by_name = np.stack([listed_logits(logits, [g])[:, 0] for g in pictures.groups], 1)
    rows = {i: np.flatnonzero(pictures.labels == i) for i in range(len(pictures.names))}
    scores = []
    for some in chosen:
        scores.append(np.mean([(some[by_name[rows[i]][:, some].argmax(1)] == i).mean() for i in some]))
    return round(100 * float(np.mean(scores)), 2)


def none_of_these(
    zoo: BodyZoo, body: Body, features: np.ndarray, logits: np.ndarray, pictures: Pictures, chosen: Sequence[np.ndarray]
) -> dict[str, float]:
    """Return false accepts in percent at 95 % of listed pictures kept, AUROC, and what the delivered threshold does."""
    few, found = zoo.features(body).few, dict[str, float]()
    if few is None:
        raise ConfigError(f"{body.id} cannot tell what is none of these; make that with: python -m benchmarks known")
    exact = class_cosines(features, zoo.weights(body)["classifier.weight"], few.mean)
    nearly = few.cosines(features)
    scores: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        n: [] for n in ("softmax", "energy", "odds", "exact", "known")
    }
    kept, accepted = [], []
    for some in chosen:
        task = Task(tuple(TaskClass(pictures.names[i].replace("_", " "), None) for i in some))
        split = split_classes(resolve_to_base(task, imagenet_classes()), zoo.near)
        near = {*split.listed, *split.neutral}
        neither = [i for i, g in enumerate(pictures.groups) if near.intersection(g) and i not in some]
        listed, other = np.isin(pictures.labels, some), ~np.isin(pictures.labels, [*some, *neither])
        own = listed_logits(logits, split.groups)
        mixed = nearly.copy()
        mixed[:, list(split.listed)] = exact[:, list(split.listed)]
        energy = own.max(1) + np.log(np.exp(own - own.max(1, keepdims=True)).sum(1))
        odds = energy - listed_logits(logits, [split.unlisted])[:, 0]
        known, by_all_rows = (known_score(c, split.listed, split.neutral) for c in (mixed, exact))
        for found_scores, score in zip(
            scores.values(), (own.max(1) - energy, energy, odds, by_all_rows, known), strict=True
        ):
            found_scores.append((score[listed], score[other]))
        threshold = body.threshold(len(split.listed)) or 0.0
        kept.append((scores["known"][-1][0] >= threshold).mean())
        accepted.append((scores["known"][-1][1] >= threshold).mean())
    for name, pairs in scores.items():
        found[f"{name}_false_accepts"] = _percent([(n >= np.quantile(p, 1 - KEPT)).mean() for p, n in pairs])
        found[f"{name}_auroc"] = _percent([_auroc(p, n) for p, n in pairs])
    return found | {"delivered_kept": _percent(kept), "delivered_false_accepts": _percent(accepted)}


def _percent(values: Sequence[float]) -> float:
    return round(100 * float(np.mean(values)), 2)


def _auroc(listed: np.ndarray, other: np.ndarray) -> float:
    ranks = rankdata(np.concatenate([listed, other]))[: len(listed)].sum()
    return float((ranks - len(listed) * (len(listed) + 1) / 2) / (len(listed) * len(other)))


def answers(run: Callable[[np.ndarray], np.ndarray], pictures: Pictures, pixels: int) -> np.ndarray:
    """Return what a network gives for all pictures, read as `prune` reads them."""
    parts = []
    for start in range(0, len(pictures.files), 64):
        files = pictures.files[start : start + 64]
        read = decode_all(files, range(len(files)), (pixels, pixels))
        if len(read.images) != len(files):
            raise ConfigError(f"a picture cannot be read: {read.failures[0]}")
        parts.append(run(np.asarray(read.images)))
    return np.concatenate(parts)


def tflite(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """Return what asks a TFLite classifier for the logarithm of its probabilities, and its pixels."""
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    asked = Interpreter(str(file))
    asked.allocate_tensors()
    (given,), (told,) = asked.get_input_details(), asked.get_output_details()
    scale, zero = told["quantization"]

    def run(images: np.ndarray) -> np.ndarray:
        found = []
        for image in images.transpose(0, 2, 3, 1):
            asked.set_tensor(given["index"], image[None])
            asked.invoke()
            found.append(asked.get_tensor(told["index"])[0, 1:].astype(np.float32))
        return np.log((np.stack(found) - zero) * scale + 1e-6)

    return run, int(given["shape"][1])


def main(argv: Sequence[str]) -> None:
    """Test every body of a zoo, or a TFLite file, on directories of photographs; append a record for each."""
    script = Script("photographs", __doc__)
    script.add("--zoo")
    script.add("--tflite", type=Path)
    script.add("--pictures", action="append", required=True, metavar="NAME=DIR[@EVERY]")
    script.add("--trained", action="append", type=Path, default=[])
    script.add("--only", action="append", metavar="ID", help="a body or form to test; all of the zoo otherwise")
    script.add("--lists", type=int, default=1000)
    script.add("--known-lists", type=int, default=100)
    args = script.parse(argv)
    seen = {w.name for d in args.trained for w in d.iterdir()}
    wnids = np.array(WNIDS)
    for text in args.pictures:
        name, _, directory = text.partition("=")
        directory, _, every = directory.partition("@")
        pictures = read(Path(directory), int(every or 1))
        untrained = [i for i, g in enumerate(pictures.groups) if not seen.intersection(wnids[list(g)])]
        chosen = lists(pictures, range(len(pictures.names)), args.lists)
        others = lists(pictures, untrained, args.lists) if seen and len(untrained) >= WAYS else []
        about: dict[str, Any] = {"pictures": name, "n": len(pictures.files), "names": len(pictures.names)}
        if args.tflite:
            run, pixels = tflite(args.tflite)
            logits = answers(run, pictures, pixels)
            result = {"five_way": accuracy(logits, pictures, chosen)}
            script.record({**about, "network": args.tflite.stem, "pixels": pixels}, result)
            log.info("%s on %s: %s", args.tflite.stem, name, result)
            continue
        zoo = open_bodies(args.zoo)
        if zoo is None:
            raise ConfigError(f"{args.zoo} is no zoo of bodies")
        for body in (b for b in zoo.bodies + zoo.forms if not args.only or b.id in args.only):
            model = zoo.graph(body, zoo.weights(body))
            if body.arithmetic == "int8":
                model = quantise(model, *zoo.rounding(body))
            seen_by_last = model.graph.node[-1].input[0]
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(seen_by_last))
            session = ort.InferenceSession(model.SerializeToString())
            features = answers(
                lambda images, s=session: np.asarray(s.run(None, {"image": images.astype(np.float32) / 255})[1]),
                pictures, body.pixels,
            )  # fmt: skip
            weights = zoo.weights(body)
            logits = features @ weights["classifier.weight"].T + weights["classifier.bias"]
            result: dict[str, Any] = {"five_way": accuracy(logits, pictures, chosen)}
            result |= {"five_way_untrained": accuracy(logits, pictures, others)} if others else {}
            result |= none_of_these(zoo, body, features, logits, pictures, chosen[: args.known_lists])
            config = {
                **about,
                "network": body.id,
                "pixels": body.pixels,
                "macs": body.macs + WAYS * zoo.features(body).basis.shape[1],
            }
            script.record(config, result)
            log.info("%s on %s: %s", body.id, name, result)
