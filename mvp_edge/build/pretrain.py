"""Training a base model from scratch or from given weights; resumable."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mvp_edge.build.teaching import Taught, load_teacher
from mvp_edge.config import FitConfig, Optimizer, PretrainConfig
from mvp_edge.core.device import on_device, resolve_device
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.output import check_writable
from mvp_edge.core.progress import Progress
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.data import ImageSet, open_source, scaled_down
from mvp_edge.models.architectures import head_of, new_model, set_head
from mvp_edge.models.bases import Base, find_base, load_base, read_tensors, save_base
from mvp_edge.models.heads import random_head, shared_rows
from mvp_edge.models.inference_form import with_linear_head
from mvp_edge.models.norms import IMAGES, is_folded, unfold
from mvp_edge.models.tensors import content_sha256
from mvp_edge.training.checkpoint import Checkpoint
from mvp_edge.training.loop import Batch, Batches, BatchSource, accuracy, fit, predict
from mvp_edge.training.optimizers import make_optimizer, resolve_fit

NOTE_EVERY = 20
OPTIMIZERS: dict[Optimizer, str] = {"sgd": "SGD", "adamw": "AdamW"}


def pretrain(config: PretrainConfig, progress: Progress) -> dict[str, Any]:
    """Train a base model and write it as one safetensors file with its metadata.

    A checkpoint beside the file lets a killed run go on where it was; it is removed at the end.

    Raises:
        ConfigError: the base is unknown or cannot process the small size, the checkpoint belongs to another run, or the
            file cannot be written.
        DataError: the images cannot be read.
    """
    check_writable(config.out)
    device = resolve_device(config.device)
    known = find_base(config.base)
    source = open_source(config.data)
    model = _initial(config, known, source.classes)
    small = _small_size(config, known, model)
    teacher = None if config.teacher is None else load_teacher(config.teacher, known, source.classes)
    with progress.stage("Reading images", source.count(None, "train")) as stage:
        train = source.load(None, "train", known.input_size, stage.advance)
    test = source.load(None, "test", known.input_size)
    fit_config = resolve_fit(config.fit, "pretrain", model)
    if teacher is not None and fit_config.distill == 0:
        raise ConfigError("--teacher has no effect while --distill is 0; set --distill above 0")
    steps, small_steps = (
        round(epochs * len(train) / fit_config.batch_size) for epochs in (config.epochs, config.small_epochs)
    )
    fit_config = replace(fit_config, iterations=max(1, steps))
    model = on_device(model, device)
    warnings = _unfolded(model, train, known, config, device, progress)
    optimizer = make_optimizer(model, fit_config)
    drawn = BatchSource(train, known, fit_config, device, config.seed)
    batches = Progressive(drawn if teacher is None else Taught(drawn, teacher), small, small_steps)
    settings = {
        "seed": config.seed,
        "base": config.base,
        "small": [*small, small_steps],
        "teacher": config.teacher,
        "init": config.init and content_sha256(read_tensors(config.init)[0]),
        "data": str(Path(source.place).resolve()),
    }
    checkpoint = Checkpoint(config.out.with_name(f".{config.out.name}.checkpoint"), asdict(fit_config) | settings)
    start = checkpoint.load(model, optimizer)
    batches.skip(start)

    def after_step(step: int, loss: Tensor) -> None:
        if step % NOTE_EVERY == 0:
            stage.note(f"loss {float(loss):.3f}")
        if (step + 1) % config.save_every == 0:
            checkpoint.save(model, optimizer, step + 1)

    _make_place(config.out)
    with progress.stage("Training", fit_config.iterations) as stage:
        stage.advance(start)
        fit(model, batches, fit_config, optimizer=optimizer, start=start, after_step=after_step, stage=stage)
    top1 = accuracy(predict(model, test.images, known, device, bf16=True), test).top1
    trained = replace(known, classes=train.classes, top1=round(top1, 2), recipe=_recipe(config, fit_config))
    save_base(model, trained, config.out)
    checkpoint.path.unlink(missing_ok=True)
    return {
        "base": config.base,
        "out": str(config.out),
        "top1": round(top1, 2),
        "epochs": config.epochs,
        "n": len(test),
        "warnings": warnings,
    }


def _unfolded(
    model: nn.Module, train: ImageSet, known: Base, config: PretrainConfig, device: torch.device, progress: Progress
) -> list[str]:
    """Measure batch norms that are folded into convolutions, in place, and return a warning if there are any."""
    if not is_folded(model):
        return []
    sample = rng(config.seed, "norms").permutation(len(train))[:IMAGES]
    with progress.stage("Measuring batch norms"):
        unfold(model, train.subset(sample).images, known, device)
    return [f"the batch norms of {config.init} were folded into its convolutions; they were measured anew"]


def _make_place(out: Path) -> None:
    """Make the directory of a file before hours are spent on what it will hold.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"cannot make {out.parent} ({e.strerror or e}); choose another place with --out") from e


class Progressive:
    """Batches whose first ones are scaled down: coarse features come first, at a fraction of the price.

    References:
        Howard, "Training Imagenet in 3 hours for USD 25", 2018 (progressive resizing).
    """

    def __init__(self, source: Batches, size: tuple[int, int], steps: int) -> None:
        """Scale the images of the first `steps` batches of `source` to `size` (H, W)."""
        self.device, self.seed = source.device, source.seed
        self._source, self._size, self._left = source, size, steps

    def next(self) -> Batch:
        """Return the next batch."""
        batch = self._source.next()
        if self._left <= 0:
            return batch
        self._left -= 1
        # After augmentation, so that shifts and holes keep their share of the image.
        return replace(batch, images=scaled_down(batch.images, self._size))

    def skip(self, n: int) -> None:
        """Pass over `n` batches as if they had been drawn."""
        self._source.skip(n)
        self._left -= n


def _initial(config: PretrainConfig, known: Base, classes: tuple[str, ...]) -> nn.Module:
    """Return the network to train: new, or with the given weights and a head for the classes of the data."""
    if config.init is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_rng(config.seed, "init").initial_seed())
            return with_linear_head(new_model(known.arch, len(classes)))
    base, model = load_base(config.base, config.init)
    head = head_of(model)
    assert isinstance(head, nn.Linear)
    if base.classes or head.out_features != len(classes):  # weights that name no classes are taken to have the data's
        rows = shared_rows(classes, base.classes, head)
        set_head(model, rows or random_head(head.in_features, len(classes), torch_rng(config.seed, "head")))
    return model


def _small_size(config: PretrainConfig, known: Base, model: nn.Module) -> tuple[int, int]:
    """Return (H, W) of the first images.

    Raises:
        ConfigError: it is not smaller than what the base takes anyway, or too small for its layers.
    """
    height, width = known.input_size
    if not config.small_size:
        return height, width
    side = min(height, width)
    if config.small_size >= side:
        raise ConfigError(
            f"--small-size is {config.small_size}; {known.name} takes {height} x {width}, so use 1 to {side - 1}"
        )
    size = round(height * config.small_size / side), round(width * config.small_size / side)
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError) as e:
        reason = (str(e).splitlines() or [""])[0]
        raise ConfigError(
            f"{known.name} cannot process images of {size[0]} x {size[1]} ({reason}); use a larger --small-size"
        ) from e
    return size


def _recipe(config: PretrainConfig, fit_config: FitConfig) -> str:
    text = f"{config.epochs:g} epochs"
    if config.small_size:
        text += f", the first {config.small_epochs:g} at {config.small_size} px"
    if config.teacher:
        text += f", taught by {Path(config.teacher).stem}"
    settings = json.dumps(fit_config.to_recipe())
    return f"{text}, {OPTIMIZERS[fit_config.optimizer]} {settings}" + (", warm start" if config.init else "")
