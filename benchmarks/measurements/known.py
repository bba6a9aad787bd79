"""What `known` needs of a zoo's networks: unlisted classes in few dimensions, and thresholds.

    python -m benchmarks known ZOO --unlabelled DIR[@EVERY]... --pictures DIR... --sharp DIR

The few dimensions are learned from pictures without labels; networks with the same weights learn together, each from
its share of the pictures. Thresholds come from labelled pictures `DIR/WNID/*` up to
`--small` pixels, and beyond as much from sharp photographs without labels, every 20th of `--sharp DIR`, weighed by how
surely the base at its own pixels sees a class; each directory counts alike. Pictures smaller than a network's are
blurred to it, and score lower: networks that learned from such pictures count them nevertheless, those with the base's
own weights do not. An INT8 form has what its body has. Nothing is learned from what thresholds come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax

from benchmarks.command import Script, log
from benchmarks.measurements import teach
from benchmarks.measurements.bodies import LISTS, every_body, pictures, write
from benchmarks.measurements.forms import LEFT_OUT, checksum, classified, describe, opened, stored_bytes
from mvp_edge.core.streams import rng
from mvp_edge.models.tensors import compress, deserialise, serialise
from mvp_edge.names.known import GAIN, KEPT, FewRows, class_cosines, known_score, norms
from mvp_edge.zoo.bodies import BASE, FEW, KNOWN, Body, BodyZoo

HEAD = "classifier.weight"
SHARE = 0.05  # of a file's bytes that unlisted classes may cost
STEPS, BATCH, RATE = 1500, 768, 1e-3
CHANCE, NEAREST = 0.4, 20  # that the nearest class of a picture is listed; a k-th of it for the k-th nearest
SURE = 0.2  # probability below which a photograph is not taken to show a class
LISTED = (1, 2, 3, 5, 8, 12, 20, 40, 80, 160, 320)
# Cosines of pictures with listed classes, with unlisted ones, and how surely each shows each class: all `(N, C)`.
Shown = tuple[np.ndarray, np.ndarray, np.ndarray]


def main(argv: Sequence[str]) -> None:
    """Write the few dimensions and the thresholds into the zoo."""
    script = Script("photographs", __doc__, command="known")
    script.add("zoo", type=Path)
    script.add("--unlabelled", action="append", required=True, metavar="DIR[@EVERY]")
    script.add("--pictures", action="append", type=Path, required=True)
    script.add("--sharp", type=Path, required=True)
    script.add("--small", type=int, default=84, help="pixels of the labelled pictures")
    script.add("--each", type=int, default=20, help="labelled pictures of a class")
    args = script.parse(argv)
    teaching = unlabelled(args.unlabelled)
    zoo = opened(args.zoo)
    networks = [b for b in [*zoo.bodies, *zoo.forms] if b.arithmetic != "int8"]
    for weights in dict.fromkeys(body.weights for body in networks):
        alike = [body for body in networks if body.weights == weights]
        seen = [classified(zoo, body, teaching[i :: len(alike)])[0] for i, body in enumerate(alike)]
        rows = zoo.weights(alike[0])[HEAD]
        few = learned(np.concatenate(seen), rows, zoo.near, dimensions(stored_bytes(zoo, alike[0]), *rows.shape))
        for body in alike:
            keep(zoo, body, few)
        log.info("%s: %d dimensions from %d pictures", ", ".join(b.id for b in alike), len(few.basis), len(teaching))
    zoo = opened(args.zoo)
    files, labels = pictures(args.pictures, args.each)
    sharp = teach.pictures(args.sharp)[::LEFT_OUT]
    shown, certain = np.eye(len(zoo.classes.classes))[labels], surely(zoo, sharp)
    found = {}
    for body in [*zoo.bodies, *zoo.forms]:
        if body.arithmetic == "int8":
            found[body.id] = found[body.like]
            continue
        sets = [scored(zoo, body, files, shown)]
        if body.pixels > args.small:
            sets = [*labelled_parts(body, sets[0], files, args.pictures), scored(zoo, body, sharp, certain)]
        found[body.id] = thresholds(sets, zoo.near)
        log.info("%s: %s, before %s", body.id, found[body.id], body.thresholds)
    describe(args.zoo, [replace(b, thresholds=found[b.id]) for b in every_body(args.zoo)])


def unlabelled(directories: Sequence[str]) -> list[Path]:
    """Return every so many pictures of each directory, without those that are left out for choices."""
    files = []
    for text in directories:
        directory, _, every = text.partition("@")
        files += [p for i, p in enumerate(teach.pictures(Path(directory))) if i % LEFT_OUT][:: int(every or 1)]
    return files


def dimensions(size: int, classes: int, width: int) -> int:
    """Return how many dimensions keep the bytes of unlisted classes within their share of a file.

    Args:
        size: Bytes of the weights without those of the last layer.
        classes: Of the base.
        width: Of the features.
    """
    within = SHARE / (1 - SHARE) * size
    vectors = 4 * (2 * width + 2 * classes)  # means, biases and scales, in single precision
    return int(np.clip((within - vectors) / (width + classes + 4), 1, min(width, classes)))


def learned(features: np.ndarray, rows: np.ndarray, near: Sequence[tuple[int, int]], count: int) -> FewRows:
    """Return few dimensions in which unlisted classes are, together, as near to pictures as they are exactly.

    They start as those that explain most of the cosines of these pictures. They are trained so that over the unlisted
    classes of random lists the softmax of cosines is the exact one, and so is their log-sum-exp.

    Args:
        features: `(N, D)` of pictures of any kind.
        rows: Weights of the last layer, `(C, D)`.
        near: Pairs of classes of which none is unlisted where the other is listed.
        count: Of dimensions.
    """
    draw = torch.Generator().manual_seed(0)
    mean, given = features.mean(0), torch.from_numpy(features.astype(np.float32))
    unit = (rows - rows.mean(0)) / norms(rows - rows.mean(0))
    root = np.linalg.cholesky(np.cov(features.T) + 1e-4 * np.eye(len(mean)) * features.var())
    left = np.linalg.svd(unit @ root, full_matrices=False)[0][:, :count]
    start = (left.T @ unit, left, -left @ (left.T @ unit @ mean))
    basis, few, bias = (torch.nn.Parameter(torch.from_numpy(v.astype(np.float32))) for v in start)
    exact_rows, centre = torch.from_numpy(unit.astype(np.float32)), torch.from_numpy(mean.astype(np.float32))
    partners = torch.eye(len(rows))
    for a, b in near:
        partners[a, b] = partners[b, a] = 1
    chance = CHANCE / torch.arange(1, min(NEAREST, len(rows) // 2) + 1)
    optimiser = torch.optim.AdamW([basis, few, bias], lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        batch = given[torch.randint(len(given), (BATCH,), generator=draw)]
        gain = GAIN / (batch - centre).norm(dim=1, keepdim=True)
        exact = gain * ((batch - centre) @ exact_rows.T)
        nearly = gain * (batch @ basis.T @ few.T + bias)
        nearest = exact.topk(len(chance), 1)[1]
        drawn = torch.bernoulli(chance.expand(len(batch), -1), generator=draw)
        taken = torch.zeros_like(exact).scatter_(1, nearest, drawn) @ partners > 0
        wanted, found = exact.masked_fill(taken, -1e4), nearly.masked_fill(taken, -1e4)
        divergence = torch.nn.functional.kl_div(
            found.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True
        )
        loss = divergence + (found.logsumexp(1) - wanted.logsumexp(1)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([basis, few, bias], 1.0)
        optimiser.step()
        schedule.step()
    made = [v.detach().numpy() for v in (basis, few, bias)]
    return FewRows(made[0], made[1], made[2], mean.astype(np.float32))


def keep(zoo: BodyZoo, body: Body, few: FewRows) -> None:
    """Write the few dimensions of a body beside what it sees in labelled pictures."""
    name = f"features/{body.id}.safetensors.gz"
    file = zoo.path / name
    tensors, about = deserialise(file.read_bytes())
    tensors |= {KNOWN + k: torch.from_numpy(getattr(few, k)) for k in FEW}
    write(file, compress(serialise(tensors, "int8-fine", about or None)))
    sums = {k: checksum(file) if k == name else v for b in every_body(zoo.path) for k, v in b.sha256.items()}
    bodies = [replace(b, sha256={k: sums[k] for k in b.sha256}) for b in every_body(zoo.path)]
    describe(zoo.path, bodies)


def scored(zoo: BodyZoo, body: Body, files: Sequence[Path], shown: np.ndarray) -> Shown:
    """Return what `thresholds` wants of pictures, of a body or form as it is delivered."""
    few = zoo.features(body).few
    assert few is not None
    features = classified(zoo, body, files)[0]
    return class_cosines(features, zoo.weights(body)[HEAD], few.mean), few.cosines(features), shown


def surely(zoo: BodyZoo, sharp: Sequence[Path]) -> np.ndarray:
    """Return how surely photographs without labels show each class `(N, C)`, as the base sees them."""
    found = softmax(classified(zoo, zoo.bodies[0], sharp)[1], 1)
    found[found < SURE] = 0
    return found


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
    for listed, *each in zip(LISTED, *(scores_of_lists(*some, near) for some in sets), strict=True):
        joined = np.concatenate([scores for scores, _ in each])
        share = np.concatenate([weights / weights.sum() / len(each) for _, weights in each])
        order = np.argsort(joined)
        found.append((listed, round(float(joined[order][np.searchsorted(np.cumsum(share[order]), 1 - KEPT)]), 3)))
    return tuple(found)


def scores_of_lists(
    cosines: np.ndarray, unlisted: np.ndarray, shown: np.ndarray, near: Sequence[tuple[int, int]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each number of `LISTED` the `known` scores of pictures of listed classes, and what each counts."""
    present, draw, found = np.flatnonzero(shown.sum(0) >= 1), rng(0, "thresholds"), []
    partners = {c: {b if a == c else a for a, b in near if c in (a, b)} for c in range(cosines.shape[1])}
    for listed in LISTED:
        scores, weights = [], []
        for _ in range(LISTS // 3):
            some = draw.choice(present, min(listed, len(present) // 2 + 1), replace=False)
            others = np.setdiff1d(np.arange(cosines.shape[1]), some)
            chosen = np.concatenate([some, draw.choice(others, listed - len(some), replace=False)])
            neutral = set().union(*(partners[int(c)] for c in chosen)) - set(chosen.tolist())
            certain = shown[:, chosen].sum(1)
            index = np.flatnonzero(certain)
            mixed = unlisted[index]
            mixed[:, chosen] = cosines[np.ix_(index, chosen)]
            scores.append(known_score(mixed, chosen.tolist(), sorted(neutral)))
            weights.append(certain[index])
        found.append((np.concatenate(scores), np.concatenate(weights)))
    return found
