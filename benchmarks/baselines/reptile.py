"""IHT-based Reptile: one sparse network, meta-trained on the zoo's tasks, from which every target task fine-tunes.

Iterative hard thresholding alternates sparse and dense phases of meta-training, sparser from phase to phase.
Masks are unstructured: the network keeps its size, and nothing that this tool is for runs faster.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.baselines.masked import Masks, fit_head, magnitude_masks, source_of
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.models.architectures import head_name, head_of, set_head
from mvp_edge.models.heads import random_head
from mvp_edge.models.tensors import load_weights
from mvp_edge.training.loop import fit
from mvp_edge.training.optimizers import make_optimizer

State = dict[str, Tensor]


@dataclass(frozen=True)
class MetaConfig:
    """Meta-training.

    Attributes:
        keep: Density at the end.
        iterations: Meta-steps.
        tasks: Training tasks a meta-step.
        inner: How each of them is trained; the published run takes 8 steps of 10 images.
        step: Meta-rate at the start; it falls linearly to zero.
        first_keep: Density of the first sparse phase.
        interval: Meta-steps of a phase pair, sparse then dense.
        sparse: Share of an interval in which the mask holds.

    References:
        Tian et al., "Meta-learning with Network Pruning", 2020 (Dense-Sparse-Dense); Nichol et al., 2018 (Reptile).
    """

    keep: float = 0.1
    iterations: int = 60
    tasks: int = 2
    inner: FitConfig = FitConfig(iterations=8, batch_size=32, lr=0.01)
    step: float = 1.0
    first_keep: float = 0.4
    interval: int = 15
    sparse: float = 0.75


def meta_step(theta: Mapping[str, Tensor], adapted: Sequence[Mapping[str, Tensor]], rate: float) -> State:
    """Return `theta + rate * (mean of the adapted tensors - theta)`; tensors that are no numbers stay as they are."""
    moved = {}
    for name, value in theta.items():
        if value.is_floating_point():
            mean = torch.stack([state[name] for state in adapted]).mean(0)
            moved[name] = value + rate * (mean - value)
        else:
            moved[name] = value
    return moved


def density_at(iteration: int, config: MetaConfig) -> float | None:
    """Return the density at a meta-step, None in a dense phase; the last interval is sparse to its end."""
    intervals = max(1, config.iterations // config.interval)
    number = min(iteration // config.interval, intervals - 1)
    last = number == intervals - 1
    if not last and iteration - number * config.interval >= config.sparse * config.interval:
        return None
    return config.first_keep + (config.keep - config.first_keep) * (
        number / max(1, intervals - 1) if intervals > 1 else 1
    )


def meta_train(
    model: nn.Module, draw: Callable[[int], Sequence[Setting]], config: MetaConfig, device: torch.device, seed: int
) -> Masks:
    """Meta-train a network in place, without its head, and return the masks that it ends with.

    Args:
        model: A copy of the base model.
        draw: Returns the training tasks of a meta-step.
        config: Settings.
        device: Where.
        seed: Of the heads and the batches.
    """
    on_device(model, device)
    head = head_name(model)
    masks: Masks | None = None
    active: float | None = None
    for iteration in range(config.iterations):
        density = density_at(iteration, config)
        if density != active:
            masks = None if density is None else magnitude_masks(model, head, density)
            active = density
        if masks is not None:
            masks.apply()
        theta = _body_state(model, head)
        adapted = []
        for number, setting in enumerate(draw(iteration)):
            inner = copy.deepcopy(model)
            generator = torch_rng(seed, f"reptile/{iteration}/{number}")
            set_head(inner, random_head(head_of(inner).in_features, len(setting.task.classes), generator).to(device))
            seeded = replace(setting, seed=seed + 1000 * iteration + number)
            _fit_masked(seeded, inner, masks, config.inner)
            adapted.append(_body_state(inner, head))
        moved = meta_step(theta, adapted, config.step * (1 - iteration / config.iterations))
        load_weights(model, {**model.state_dict(), **moved})
    final = magnitude_masks(model, head, config.keep)
    final.apply()
    return final


@dataclass(frozen=True)
class Reptile:
    """Fine-tunes the meta-trained network of a file, its mask held.

    Attributes:
        weights: Makes the network if there is none yet, and returns its file.
    """

    weights: Callable[[Setting], Path]

    def __call__(self, setting: Setting, config: FitConfig) -> nn.Module:
        """Train the sparse meta-network on the setting's task."""
        model = copy.deepcopy(setting.prunable.model)
        tensors = load_file(self.weights(setting))
        trained = {k: v for k, v in tensors.items() if not k.startswith("mask/")}
        rows = {k: v for k, v in model.state_dict().items() if k.startswith(f"{head_name(model)}.")}
        load_weights(model, {**rows, **trained})
        model = on_device(model, setting.device)
        held = {k.removeprefix("mask/"): v.bool().to(setting.device) for k, v in tensors.items() if "mask/" in k}
        masks = Masks(model, held)
        fit_head(setting, model)
        return _fit_masked(setting, model, masks, config)


def save_meta(path: Path, model: nn.Module, masks: Masks, config: MetaConfig) -> None:
    """Write a meta-trained network with its masks."""
    tensors = {k: v.contiguous().cpu() for k, v in _body_state(model, head_name(model)).items()}
    tensors |= {f"mask/{k}": v.to(torch.uint8).cpu().contiguous() for k, v in masks.keep.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"settings": str(asdict(config))})


def drawing(settings: Sequence[Setting], config: MetaConfig, seed: int) -> Callable[[int], list[Setting]]:
    """Return what draws the training tasks of every meta-step, without replacement within one."""

    def draw(iteration: int) -> list[Setting]:
        order = rng(seed, f"reptile/tasks/{iteration}").permutation(len(settings))
        return [settings[i] for i in order[: config.tasks]]

    return draw


def _fit_masked(setting: Setting, model: nn.Module, masks: Masks | None, config: FitConfig) -> nn.Module:
    """Train a network in place, its mask held."""
    optimizer, held = make_optimizer(model, config), masks and Masks(model, masks.keep)
    fit(
        model, source_of(setting, config), config, optimizer=optimizer,
        after_step=lambda step, loss: held.apply(optimizer) if held else None,
    )  # fmt: skip
    return model


def _body_state(model: nn.Module, head: str) -> State:
    return {k: v.detach().clone() for k, v in model.state_dict().items() if not k.startswith(f"{head}.")}
