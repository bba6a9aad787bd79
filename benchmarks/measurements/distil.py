"""The base at few pixels learns from itself at more, with its batch norms' statistics fixed.

    python -m benchmarks distil PIXELS --crops DIR --sets mini:1,woof:0.5 --steps N --out FILE [--rate 1e-4]
        [--start BODY] [--macs M]

With `--macs` the units that matter least for what they cost are left out, and projections are solved in closed form on
some of the crops, before training. The crops come from `python -m benchmarks teach`. A killed run goes on where it was.
Statistics that move on a narrow choice of pictures lose classes that are not among them; fixed ones generalise
(docs/measurements.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.command import Script, log
from benchmarks.lite0 import at, body, kept_by, lite0
from benchmarks.measurements import teach
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.environment import environment
from mvp_edge.core.streams import rng
from mvp_edge.data import normalise
from mvp_edge.models.architectures import head_of
from mvp_edge.models.bases import Base, save_base
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.pruners.reconstruction import counts_within, importance, reconstructed
from mvp_edge.pruners.units import top_plan
from mvp_edge.training.checkpoint import Checkpoint
from mvp_edge.training.loop import Batch, fit
from mvp_edge.training.optimizers import make_optimizer

SAVE_EVERY = 500  # steps
SOLVED_ON = 1600  # crops


class CropBatches:
    """Batches of crops with the teacher's logits: a set is drawn by its weight, then its crops without repetition.

    Args:
        sets: Crops with weights; a set is drawn with a probability proportional to its weight times its size.
        base: Pixels and colours of the student.
        batch_size: Crops in a batch.
        device: Where batches go.
        seed: Batch `k` of a seed is always the same.
    """

    def __init__(
        self,
        sets: Sequence[tuple[teach.Crops, float]],
        base: Base,
        batch_size: int,
        device: torch.device,
        seed: int,
    ) -> None:
        self.sets, self.base, self.batch_size, self.device = [s for s, _ in sets], base, batch_size, device
        shares = np.array([weight * len(crops.images) for crops, weight in sets])
        self.shares = shares / shares.sum()
        self.seed = seed
        self._draw = rng(seed, "crops")

    def _indices(self) -> tuple[teach.Crops, np.ndarray, bool]:
        crops = self.sets[self._draw.choice(len(self.sets), p=self.shares)]
        chosen = self._draw.choice(len(crops.images), self.batch_size, replace=False)
        return crops, np.sort(chosen), bool(self._draw.integers(2))

    def pictures(self, count: int) -> Tensor:
        """Return that many uint8 crops `(N, 3, H, W)`, of each set by its share."""
        draw = rng(0, "pictures")
        parts = [
            crops.images[np.sort(draw.choice(len(crops.images), round(count * share), replace=False))]
            for crops, share in zip(self.sets, self.shares, strict=True)
        ]
        return torch.cat([resized(torch.from_numpy(p).permute(0, 3, 1, 2), self.base.input_size) for p in parts])

    def next(self) -> Batch:
        """Return the next batch."""
        crops, chosen, mirrored = self._indices()
        images = resized(torch.from_numpy(crops.images[chosen]).permute(0, 3, 1, 2), self.base.input_size)
        images = images.flip(3) if mirrored else images
        normal = normalise(images.to(self.device), self.base.mean, self.base.std)
        teacher = torch.from_numpy(crops.logits[chosen]).float().to(self.device)
        return Batch(normal, torch.zeros(len(chosen), dtype=torch.long, device=self.device), teacher)

    def skip(self, n: int) -> None:
        """Pass over `n` batches as if they had been drawn."""
        for _ in range(n):
            self._indices()


def sliced(prunable: PrunableModel, macs: int, images: Tensor) -> tuple[nn.Module, KeepPlan]:
    """Return a network within `macs` multiply-adds, solved on uint8 images `(N, 3, H, W)`, and what it keeps."""
    images = normalise(images, prunable.base.mean, prunable.base.std)
    scores = importance(prunable, images)
    plan = top_plan(prunable.table, scores, counts_within(prunable, scores, macs))
    return reconstructed(prunable, plan, images), plan


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return uint8 images `(N, 3, H, W)` at another size."""
    if images.shape[2:] == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def main(argv: Sequence[str]) -> None:
    """Distil the base at some pixels and write the network."""
    script = Script("photographs", __doc__, "device", "seed", command="distil")
    script.add("pixels", type=int)
    script.add("--crops", type=Path, required=True)
    script.add("--sets", required=True, help="NAME:WEIGHT,...")
    script.add("--steps", type=int, required=True)
    script.add("--out", type=Path, required=True)
    script.add("--rate", type=float, default=1e-4)
    script.add("--start", metavar="BODY", help="a body of the bundled zoo to go on from; the base otherwise")
    script.add("--macs", type=float, help="millions of multiply-adds up to the features, at most")
    args = script.parse(argv)
    base, device = at(args.pixels), script.device
    named = dict(part.split(":") for part in args.sets.split(","))
    sets = [(teach.load(args.crops / name), float(weight)) for name, weight in named.items()]
    config = FitConfig(
        iterations=args.steps, batch_size=64, lr=args.rate, weight_decay=0.01, warmup=0.02, crop=0, distill=1.0,
        temperature=1.0, optimizer="adamw", norms="fixed",
    )  # fmt: skip
    recipe: dict[str, object] = {
        "method": "distilled from the base at more pixels",
        "fit": config.to_recipe(),
        "sets": [{**crops.recipe, "weight": weight} for crops, weight in sets],
        "seed": args.seed,
    }
    if args.start is not None:
        started, network = body(args.start)
        recipe["start"], kept = json.loads(started.recipe), kept_by(args.start)
    else:
        network, kept = lite0(), None
    batches = CropBatches(sets, base, config.batch_size, device, args.seed)
    checkpoint = Checkpoint(args.out.with_suffix(".checkpoint"), {**recipe, "pixels": args.pixels, "macs": args.macs})
    if args.macs is not None:
        most = int(1e6 * args.macs) + head_of(network).weight.numel()
        network, plan = sliced(PrunableModel.of(base, network), most, batches.pictures(SOLVED_ON))
        kept = plan if kept is None else kept.then(plan)
    if kept is not None:
        recipe["plan"] = kept.to_json()
    network = on_device(network, device)
    optimizer = make_optimizer(network, config)
    start = checkpoint.load(network, optimizer)
    batches.skip(start)

    def after_step(step: int, loss: Tensor) -> None:
        if (step + 1) % SAVE_EVERY == 0:
            checkpoint.save(network, optimizer, step + 1)
            log.info("%d px: step %d of %d, loss %.3f", args.pixels, step + 1, args.steps, float(loss))

    fit(network, batches, config, optimizer=optimizer, start=start, after_step=after_step)
    told = {**recipe, "crops_seen": args.steps * config.batch_size, "machine": environment(device)["processor"]}
    save_base(network, replace(at(args.pixels, told), classes=base.classes), args.out)
    checkpoint.path.unlink(missing_ok=True)
