"""Training a base model from scratch or from given weights; resumable."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mvp_edge.atomic import write_atomically
from mvp_edge.config import PretrainConfig
from mvp_edge.data import open_source
from mvp_edge.errors import ConfigError
from mvp_edge.models import find_base, load_base, new_model, read_tensors, save_base
from mvp_edge.runtime import Progress, resolve_device
from mvp_edge.train import BatchSource, accuracy, fit, make_optimizer, predict

NOTE_EVERY = 20


def pretrain(config: PretrainConfig, progress: Progress) -> dict[str, Any]:
    """Train a base model and write it as one safetensors file with its metadata.

    A checkpoint beside the file lets a killed run go on where it was; it is removed at the end.

    Raises:
        ConfigError: the base is unknown, or the checkpoint belongs to another run.
        DataError: the images cannot be read.
    """
    device = resolve_device(config.device)
    known = find_base(config.base)
    source = open_source(config.data)
    with progress.stage("Reading images", source.count(None, "train")) as stage:
        train = source.load(None, "train", known.input_size, stage.advance)
    test = source.load(None, "test", known.input_size)
    steps = max(1, round(config.epochs * len(train) / config.fit.batch_size))
    fit_config = replace(config.fit, iterations=steps)
    model = load_base(config.base, config.init)[1] if config.init else new_model(known.arch, len(train.classes))
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model, fit_config)
    batches = BatchSource(train, known, fit_config, device, config.seed)
    checkpoint = Checkpoint(
        config.out.with_name(f".{config.out.name}.checkpoint"), asdict(fit_config) | {"seed": config.seed}
    )
    start = checkpoint.load(model, optimizer)
    batches.skip(start)

    def after_step(step: int, loss: Tensor) -> None:
        if step % NOTE_EVERY == 0:
            stage.note(f"loss {float(loss):.3f}")
        if (step + 1) % config.save_every == 0:
            checkpoint.save(model, optimizer, step + 1)

    with progress.stage("Training", steps) as stage:
        stage.advance(start)
        fit(model, batches, fit_config, optimizer=optimizer, start=start, after_step=after_step, stage=stage)
    top1 = accuracy(predict(model, test.images, known, device, bf16=True), test).top1
    recipe = f"{config.epochs:g} epochs, SGD {json.dumps(asdict(fit_config))}" + (", warm start" if config.init else "")
    save_base(model, replace(known, classes=train.classes, top1=round(top1, 2), recipe=recipe), config.out)
    checkpoint.path.unlink(missing_ok=True)
    return {
        "base": config.base,
        "out": str(config.out),
        "top1": round(top1, 2),
        "epochs": config.epochs,
        "n": len(test),
    }


@dataclass(frozen=True)
class Checkpoint:
    """Weights, momentum and step of a run, bound to its settings."""

    path: Path
    settings: dict[str, Any]

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Write the state of a run, all or nothing.

        Raises:
            ConfigError: it cannot be written.
        """
        tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
        for i, parameter in enumerate(model.parameters()):
            if (momentum := optimizer.state[parameter].get("momentum_buffer")) is not None:
                tensors[f"momentum/{i}"] = momentum
        meta = {"step": str(step), "settings": json.dumps(self.settings)}
        try:
            write_atomically(self.path, save({k: v.contiguous().cpu() for k, v in tensors.items()}, metadata=meta))
        except OSError as e:
            raise ConfigError(f"cannot write {self.path} ({e.strerror or e}); make room or choose another --out") from e

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore a run and return the step it goes on with; 0 if there is nothing to restore.

        Raises:
            ConfigError: the checkpoint belongs to a run with other settings.
        """
        if not self.path.exists():
            return 0
        tensors, meta = read_tensors(self.path)
        if json.loads(meta["settings"]) != self.settings:
            raise ConfigError(f"{self.path} belongs to a run with other settings; remove it or repeat those settings")
        model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
        for i, parameter in enumerate(model.parameters()):
            if (momentum := tensors.get(f"momentum/{i}")) is not None:
                optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
        return int(meta["step"])
