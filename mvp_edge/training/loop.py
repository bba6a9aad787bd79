"""Training and evaluation: one loop for base models, pruning runs and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_edge.config import FitConfig
from mvp_edge.core.device import autocast
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress, Stage
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import ImageSet, augment, batches, forward_batch, normalise
from mvp_edge.models.bases import Base
from mvp_edge.models.norms import fix_norms, require_trainable
from mvp_edge.training.quick_layers import quick_layers

CHECK_EVERY = 20
BeforeStep = Callable[[int], None]
AfterStep = Callable[[int, Tensor], None]


@dataclass(frozen=True)
class Batch:
    """Normalised images `(N, 3, H, W)`, labels `(N,)` and, when there is a teacher, its logits `(N, C)`."""

    images: Tensor
    labels: Tensor
    teacher: Tensor | None


class Batches(Protocol):
    """Where `fit` gets its batches from."""

    device: torch.device
    seed: int

    def next(self) -> Batch:
        """Return the next batch, on `device`."""
        ...

    def skip(self, n: int) -> None:
        """Pass over `n` batches as if they had been drawn."""
        ...


class BatchSource:
    """Draws augmented batches; batch `k` of a seed is the same on every device and after a resume.

    `rows` are the positions of the images to draw from, all of them if it is not given; one may come several times.
    """

    def __init__(
        self,
        data: ImageSet,
        base: Base,
        config: FitConfig,
        device: torch.device,
        seed: int,
        teacher: Tensor | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self._rows = torch.arange(len(data)) if rows is None else torch.from_numpy(rows)
        self.images = data.images.to(device)
        self.labels = data.labels.to(device)
        self.teacher = None if teacher is None else teacher.to(device)
        self.base, self.config, self.device, self.seed = base, config, device, seed
        self._order = batches(len(self._rows), config.batch_size, config.iterations, rng(seed, "batches"))
        self._augment = torch_rng(seed, "augment")

    def next(self) -> Batch:
        """Return the next batch."""
        index = self._rows[torch.from_numpy(next(self._order))].to(self.device)
        config = self.config
        images = augment(self.images[index], self._augment, config.crop, config.cutout, mean=self.base.mean)
        teacher = None if self.teacher is None else self.teacher[index]
        return Batch(normalise(images, self.base.mean, self.base.std), self.labels[index], teacher)

    def skip(self, n: int) -> None:
        """Pass over `n` batches as if they had been drawn."""
        for _ in range(n):
            next(self._order)
            torch.rand(5, self.config.batch_size, generator=self._augment, dtype=torch.float64)


def learning_rate(step: int, config: FitConfig) -> float:
    """Return the rate of step `step` (from 0): linear warm-up, then a cosine to zero.

    timm's `CosineLRScheduler` gives these rates without a warm-up only, and it stores the rates of the parameter groups
    that exist when it is made, while pruning adds and removes groups during a run.
    """
    warmup = config.warmup * config.iterations
    if step < warmup:
        return config.lr * (step + 1) / math.ceil(warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.iterations - warmup)))


def loss_of(logits: Tensor, batch: Batch, config: FitConfig) -> Tensor:
    """Return the cross-entropy, mixed with distillation from the teacher's softened outputs (Hinton et al., 2015)."""
    hard = F.cross_entropy(logits, batch.labels, label_smoothing=config.label_smoothing)
    if batch.teacher is None or config.distill == 0:
        return hard
    t = config.temperature
    soft = F.kl_div(
        F.log_softmax(logits / t, 1),
        F.log_softmax(batch.teacher.float() / t, 1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - config.distill) * hard + config.distill * t * t * soft


def fit(
    model: nn.Module,
    source: Batches,
    config: FitConfig,
    *,
    optimizer: torch.optim.Optimizer,
    start: int = 0,
    before_step: BeforeStep | None = None,
    after_step: AfterStep | None = None,
    stage: Stage | None = None,
) -> None:
    """Train a model in place, in bfloat16 where the process does (`core.device.trains_in_bf16`).

    What it draws at random, as dropout does, is given by the source's seed and the step.

    Args:
        model: On the source's device, channels-last.
        source: Where batches come from.
        config: Learning-rate schedule and loss.
        optimizer: Its rate is set at every step; that of a group with a `scale` is so many times as high.
        start: First step, when a run is resumed.
        before_step: Called with the number of the step; it may slice the model and exchange the optimiser's parameters.
        after_step: Called with the number of the step and its loss.
        stage: Progress.

    Raises:
        ConfigError: the model's batch norms are folded and their statistics are to move, or training diverges.
    """
    if config.norms == "batch":
        require_trainable(model)
    stage = stage or SilentProgress()
    model.train()
    if config.norms == "fixed":
        fix_norms(model)
    with (
        quick_layers(model) if source.device.type == "cpu" else nullcontext(),
        torch.random.fork_rng([source.device] if source.device.type == "cuda" else []),
    ):
        _steps(model, source, config, optimizer, start, before_step, after_step, stage)
    model.eval()


def _steps(
    model: nn.Module,
    source: Batches,
    config: FitConfig,
    optimizer: torch.optim.Optimizer,
    start: int,
    before_step: BeforeStep | None,
    after_step: AfterStep | None,
    stage: Stage,
) -> None:
    drawn = int(rng(source.seed, "network").integers(2**62))
    for step in range(start, config.iterations):
        torch.manual_seed(drawn + step)
        if before_step is not None:
            before_step(step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config) * group.get("scale", 1.0)
        batch = source.next()
        with autocast(source.device, bf16=True):
            logits = model(batch.images)
        loss = loss_of(logits.float(), batch, config)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss = loss.detach()
        # Not at every step, as reading the loss waits for the device; a network that has diverged stays so.
        looked_at = step % CHECK_EVERY == 0 or step + 1 == config.iterations
        if looked_at and not math.isfinite(value := float(loss)):
            raise ConfigError(f"training has diverged: the loss is {value} at step {step}; lower the rate with --lr")
        if after_step is not None:
            after_step(step, loss)
        stage.advance()


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: Tensor,
    base: Base,
    device: torch.device,
    *,
    stage: Stage | None = None,
    bf16: bool = False,
) -> Tensor:
    """Return the logits `(N, C)`, float32 on the CPU, of uint8 images `(N, 3, H, W)`."""
    model.eval()
    out = []
    for part in images.split(forward_batch(images)):
        with autocast(device, bf16=bf16):
            out.append(model(normalise(part.to(device), base.mean, base.std)).float().cpu())
        if stage is not None:
            stage.advance(len(part))
    return torch.cat(out)


def reestimate_norms(model: nn.Module, images: Tensor, base: Base, device: torch.device) -> None:
    """Set the running statistics of batch norms to those of uint8 images `(N, 3, H, W)`, in place.

    The mean of several networks' weights has other activations than any of them; their statistics do not describe it.
    """
    # Images come sorted by class: a run of them would lack the variance between classes, every k-th one has it. Parts
    # of nearly the same size, because each weighs the same in the mean over the parts.
    count = math.ceil(len(images) / forward_batch(images))
    parts = (normalise(images[first::count].to(device), base.mean, base.std) for first in range(count))
    torch.optim.swa_utils.update_bn(parts, model)
    model.eval()


@dataclass(frozen=True)
class Accuracy:
    """How often the most likely class is the right one.

    Attributes:
        top1: Percent.
        n: Images counted.
        per_class: Percent by class name; `None` for a class without images.
        confusion: `confusion[i][j]` images of class i were taken for class j.
    """

    top1: float
    n: int
    per_class: dict[str, float | None]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value, percentages with two decimals."""
        return {
            "top1": round(self.top1, 2),
            "n": self.n,
            "per_class": {k: None if v is None else round(v, 2) for k, v in self.per_class.items()},
            "confusion": [list(row) for row in self.confusion],
        }


def accuracy(logits: Tensor, data: ImageSet) -> Accuracy:
    """Score logits `(N, C)` against the labels of a set of `N` images."""
    return score(logits, data.labels, data.classes)


def score(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Accuracy:
    """Score logits `(N, C)` against labels `(N,)`."""
    c = len(classes)
    pairs = labels * c + logits.argmax(1)
    table = np.bincount(pairs.numpy(), minlength=c * c).reshape(c, c)
    rows = table.sum(1)
    return Accuracy(
        top1=100 * float(np.trace(table)) / max(1, len(labels)),
        n=len(labels),
        per_class={n: 100 * float(table[i, i]) / int(rows[i]) if rows[i] else None for i, n in enumerate(classes)},
        confusion=tuple(tuple(int(v) for v in row) for row in table),
    )
