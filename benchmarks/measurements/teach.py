"""Training pictures with what the base says of them: crops and logits, made once and read by many trainings.

    python -m benchmarks teach NAME --pictures DIR --crops DIR [--pixels 112] [--teacher-pixels 224] [--views 2]

Teacher and student see the same crop ("a good teacher is patient and consistent", Beyer et al., 2022), the teacher at
more pixels. Every `--leave-out`-th picture is left out, for choices. No label is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from benchmarks.command import Script, log
from benchmarks.lite0 import at, lite0
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng
from mvp_edge.training.loop import predict

SUFFIXES = (".jpg", ".jpeg", ".png")
AREA, RATIO = (0.35, 1.0), (3 / 4, 4 / 3)  # of a crop: share of the picture, width to height
BATCH = 64
Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Crops:
    """Crops `(N, S, S, 3)` uint8, the teacher's logits `(N, C)` float16, and how they were made."""

    images: np.ndarray
    logits: np.ndarray
    recipe: dict[str, object]


def load(directory: Path) -> Crops:
    """Return what `main` wrote."""
    recipe = json.loads((directory / "recipe.json").read_text(encoding="utf-8"))
    return Crops(np.load(directory / "images.npy"), np.load(directory / "logits.npy"), recipe)


def pictures(directory: Path, every: int = 1) -> list[Path]:
    """Return the pictures below a directory, sorted, or every n-th of them."""
    return sorted(p for p in directory.rglob("*") if p.suffix.lower() in SUFFIXES)[::every]


def centre(width: int, height: int) -> Box:
    """Return the largest square in the middle of a picture."""
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, draw: np.random.Generator) -> Box:
    """Return a random crop as Inception's: a share of the area, a ratio, a place; the middle if none fits."""
    for _ in range(10):
        area = width * height * draw.uniform(*AREA)
        ratio = math.exp(draw.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(draw.integers(width - w + 1)), int(draw.integers(height - h + 1))
            return left, top, left + w, top + h
    return centre(width, height)


def read(path: Path, least: int) -> Image.Image | None:
    """Return a picture in RGB, JPEGs decoded at a reduced size of at least `least` pixels; None if it is unreadable."""
    try:
        image = Image.open(path)
        image.draft("RGB", (least, least))
        return image.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return None


def squares(image: Image.Image, box: Box, sizes: Sequence[int]) -> list[np.ndarray]:
    """Return a crop as squares `(S, S, 3)` of several sizes."""
    part = image.crop(box)
    return [np.asarray(part.resize((size, size), Image.Resampling.BICUBIC)) for size in sizes]


def main(argv: Sequence[str]) -> None:
    """Write the crops of a directory of pictures, and what the base says of them."""
    script = Script("photographs", __doc__, command="teach")
    script.add("name")
    script.add("--pictures", type=Path, required=True)
    script.add("--crops", type=Path, required=True, help="where all sets of crops lie")
    script.add("--pixels", type=int, default=112, help="side of a stored crop")
    script.add("--teacher-pixels", type=int, default=224)
    script.add("--views", type=int, default=2, help="crops of a picture; the first is its middle")
    script.add("--every", type=int, default=1, help="take every n-th picture")
    script.add("--leave-out", type=int, default=0, help="leave out every n-th of these, for choices; 0 leaves out none")
    args = script.parse(argv)
    taken = [p for i, p in enumerate(pictures(args.pictures, args.every)) if not args.leave_out or i % args.leave_out]
    order = [taken[i] for i in rng(0, "pictures").permutation(len(taken))]
    recipe = {
        "name": args.name, "pictures": len(order), "views": args.views, "pixels": args.pixels,
        "teacher_pixels": args.teacher_pixels, "every": args.every, "leave_out": args.leave_out,
        "files_sha256": hashlib.sha256("".join(p.name for p in taken).encode()).hexdigest(),
    }  # fmt: skip
    target = args.crops / args.name
    target.mkdir(parents=True, exist_ok=True)
    shape = (len(order) * args.views, args.pixels, args.pixels, 3)
    images = np.lib.format.open_memmap(target / "images.part.npy", "w+", np.uint8, shape)
    logits = np.lib.format.open_memmap(target / "logits.part.npy", "w+", np.float16, (shape[0], 1000))
    base, teacher, device = at(args.teacher_pixels), on_device(lite0(), torch.device("cpu")), torch.device("cpu")
    done = 0
    for small, large in _batches(order, args.views, args.pixels, args.teacher_pixels):
        images[done : done + len(small)] = small
        seen = torch.from_numpy(large).permute(0, 3, 1, 2)
        logits[done : done + len(small)] = predict(teacher, seen, base, device, bf16=True).half().numpy()
        done += len(small)
        if done // BATCH % 20 == 0:
            log.info("%s: %d of %d", args.name, done, shape[0])
    images.flush()
    logits.flush()
    for kind, array in (("images", images), ("logits", logits)):
        if done < shape[0]:  # unreadable pictures
            np.save(target / f"{kind}.npy", array[:done])
            (target / f"{kind}.part.npy").unlink()
        else:
            (target / f"{kind}.part.npy").replace(target / f"{kind}.npy")
    recipe["crops"] = done
    (target / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")


def _batches(order: Sequence[Path], views: int, small: int, large: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    draw, pairs = rng(0, "crops"), []
    for view in range(views):
        for path in order:
            image = read(path, int(1.4 * large))
            if image is not None:
                box = random_box(*image.size, draw) if view else centre(*image.size)
                pairs.append(squares(image, box, (small, large)))
            if len(pairs) == BATCH or (pairs and view == views - 1 and path == order[-1]):
                yield np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])
                pairs = []
