"""What are the generated images of a zoo like: copies of training images, and of the classes they stand for?

    python -m benchmarks exemplars --data DIR [--zoo DIR] [--sheet PNG]

For each exemplar, the distance to the nearest training image or its mirror image, in pixels and in the features of the
base model, beside the same for as many test images, which are no copies. And what networks say of the exemplars: the
base and the generalists helped to make them; the specialists did not.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import records
from mvp_edge.core.device import autocast, on_device, resolve_device
from mvp_edge.core.streams import rng
from mvp_edge.data import ImageSet, normalise, open_source
from mvp_edge.models.bases import Base, read_tensors
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import canonical
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.zoo.exemplars import Exemplars
from mvp_edge.zoo.store import Zoo, open_zoo

log = logging.getLogger("benchmarks.measurements.exemplars")
QUANTILES = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95}
BATCH = 250


@torch.inference_mode()
def features(model: nn.Module, images: Tensor, base: Base, device: torch.device) -> Tensor:
    """Return what the classifier sees: `(N, D)`, float32 on the CPU."""
    found = []
    for part in images.split(BATCH):
        with autocast(device, bf16=True):
            maps = model.forward_features(normalise(part.to(device), base.mean, base.std))  # pyright: ignore
            found.append(model.forward_head(maps, pre_logits=True).float().cpu())  # pyright: ignore
    return torch.cat(found)


def nearest(queries: Tensor, keys: Tensor) -> Tensor:
    """Return the Euclidean distance of each query `(M, D)` to the nearest key `(N, D)`: `(M,)`."""
    return torch.stack([torch.cdist(queries, part).amin(1) for part in keys.split(5000)]).amin(0)


def flat(images: Tensor) -> Tensor:
    """Return uint8 images as vectors with entries in [0, 1]."""
    return images.flatten(1).float() / 255


def spread(values: Tensor) -> dict[str, float]:
    """Return quantiles."""
    return {name: round(float(values.quantile(q)), 4) for name, q in QUANTILES.items()}


def known_features(model: nn.Module, train: ImageSet, base: Base, device: torch.device, cache: Path | None) -> Tensor:
    """Return the features of all training images, which take a processor minutes, from a file if it holds them."""
    if cache is not None and cache.exists():
        tensors, meta = read_tensors(cache)
        if meta.get("base_sha256") == base.sha256:
            return tensors["features"]
    found = features(model, train.images, base, device)
    if cache is not None:
        save_file({"features": found}, cache, {"base_sha256": base.sha256})
    return found


def distances(
    prunable: PrunableModel, made: Exemplars, train: ImageSet, test: ImageSet, device: torch.device, cache: Path | None
) -> dict[str, object]:
    """Compare exemplars and test images by how near a training image comes to them."""
    model = on_device(prunable.model, device)
    queries = {"exemplars": made.images, "test_images": test.images}
    seen = {k: features(model, v, prunable.base, device) for k, v in queries.items()}
    known = known_features(model, train, prunable.base, device, cache)
    found: dict[str, dict[str, Tensor]] = {"pixel_l2": {}, "feature_l2": {}, "feature_cosine": {}}
    for name, images in queries.items():
        both = [nearest(flat(images), flat(keys)) for keys in (train.images, train.images.flip(3))]
        found["pixel_l2"][name] = torch.minimum(*both)
        found["feature_l2"][name] = nearest(seen[name], known)
        # For unit vectors, |a - b|^2 = 2 - 2 cos.
        found["feature_cosine"][name] = 1 - nearest(F.normalize(seen[name]), F.normalize(known)).square() / 2
    result: dict[str, object] = {k: {n: spread(v) for n, v in pair.items()} for k, pair in found.items()}
    closest = found["pixel_l2"]["test_images"].quantile(0.05)
    share = (found["pixel_l2"]["exemplars"] < closest).float().mean()
    result["exemplars_nearer_in_pixels_than_p05_of_test_images_percent"] = round(100 * float(share), 2)
    return result


def judged(zoo: Zoo, prunable: PrunableModel, made: Exemplars, device: torch.device) -> dict[str, object]:
    """Return how many exemplars networks take for their classes, in percent, beside the same for real test images."""
    base = prunable.base
    whole = made.load(base.classes)
    top1 = accuracy(predict(prunable.model, whole.images, base, device, bf16=True), whole).top1
    verdicts: dict[str, object] = {"base": {"exemplars": round(top1, 2), "test": base.top1}}
    known = {canonical(c) for c in base.classes}
    specialist = []
    for info in zoo.infos():
        if not {canonical(n) for n in info.task.names} <= known:
            continue
        own = made.load(info.task.names)
        model = on_device(zoo.load(info).network(prunable), device)
        top1 = accuracy(predict(model, own.images, base, device), own).top1
        if info.kind == "generalist":
            verdicts[info.id] = {"exemplars": round(top1, 2), "test": info.top1, "keep": round(info.plan.achieved, 3)}
        elif info.top1 is not None:
            specialist.append((top1, info.top1))
    if specialist:
        means = torch.tensor(specialist).mean(0).tolist()
        verdicts["specialist_mean"] = {
            "exemplars": round(means[0], 2), "test": round(means[1], 2), "members": len(specialist)
        }  # fmt: skip
    return verdicts


def variety(prunable: PrunableModel, made: ImageSet, test: ImageSet, device: torch.device) -> dict[str, float]:
    """Return the mean cosine between features of two images of one class: high means that they are alike."""
    found = {}
    for name, images in (("exemplars", made), ("test_images", test)):
        unit = F.normalize(features(prunable.model, images.images, prunable.base, device))
        alike = [unit[images.labels == k] @ unit[images.labels == k].T for k in range(len(images.classes))]
        pairs = torch.cat([c[~torch.eye(len(c), dtype=torch.bool)] for c in alike])
        found[name] = round(float(pairs.mean()), 4)
    return found


def contact_sheet(made: Exemplars, names: Sequence[str], columns: int = 5) -> Image.Image:
    """Return a picture with the images of each class side by side and its name below."""
    height, width = made.images.shape[2:]
    count = int(made.labels.bincount().max())
    cell, line = count * width + 8, height + 13
    sheet = Image.new("RGB", (columns * cell, -(-len(names) // columns) * line), "white")
    pen = ImageDraw.Draw(sheet)
    for i, name in enumerate(names):
        left, top = i % columns * cell, i // columns * line
        for j, image in enumerate(made.load([name]).images):
            sheet.paste(Image.fromarray(image.permute(1, 2, 0).numpy()), (left + j * width, top))
        pen.text((left, top + height), name, fill="black", font_size=10)
    return sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG)


def main() -> None:
    """Measure and append a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--zoo")
    parser.add_argument("--sheet", type=Path, help="only draw the contact sheet here")
    parser.add_argument("--cache", type=Path, help="safetensors file that keeps the training images' features")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    device = resolve_device(args.device)
    zoo = open_zoo(args.zoo)
    made = zoo.exemplars()
    if made is None:
        raise SystemExit(f"zoo {zoo.name} has no exemplars; make them with: mvp-edge zoo exemplars {zoo.name}")
    if args.sheet:
        contact_sheet(made, made.classes).save(args.sheet, optimize=True)
        return
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    source = open_source(args.data)
    per_class = int(made.labels.bincount().max())
    test = source.load(zoo.base.classes, "test", zoo.base.input_size).at_most(per_class, rng(0, "yardstick"))
    train = source.load(zoo.base.classes, "train", zoo.base.input_size)
    result = {
        "networks": judged(zoo, prunable, made, device),
        "cosine_within_class": variety(prunable, made.load(zoo.base.classes), test, device),
        "nearest_training_image": distances(prunable, made, train, test, device, args.cache),
    }
    config = {
        "base_sha256": zoo.base.sha256, "images": len(made), "test_images": len(test), "train_images": len(train),
        "data": source.name, "recipe": made.recipe,
    }  # fmt: skip
    records.append("exemplars", config, result, device)
    log.info("%s", result)


if __name__ == "__main__":
    main()
