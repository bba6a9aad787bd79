"""Physical slicing: tensors get smaller, no mask is left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from mvp_edge.core.errors import PlanError
from mvp_edge.models.architectures import new_inference_model
from mvp_edge.models.groups import GroupTable, kept_positions, kept_sizes
from mvp_edge.models.layer_kinds import CHANNEL_NORMS, CONVOLUTIONS, channel_axis
from mvp_edge.models.marks import Place
from mvp_edge.models.plan import KeepPlan, full_plan
from mvp_edge.models.tensors import load_weights

FAITHFUL = 1e-5
SILENT = 1e-10  # outputs that differ less between images, relative to their size, show nothing but rounding


def slice_model(
    model: nn.Module,
    table: GroupTable,
    plan: KeepPlan,
    *,
    current: KeepPlan | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Cut a model down to a plan, in place.

    Args:
        model: The base model, or a model already sliced to `current`.
        table: Groups of the base model.
        plan: What to keep; a subset of `current`.
        current: What the model holds now; everything if not given.
        optimizer: Its parameters are exchanged for the sliced ones and its per-element state (momentum) is sliced
            along, so that training goes on where it was.

    Raises:
        PlanError: the plan is for another model or keeps units that `current` has dropped.
    """
    before = kept_positions(table, current or full_plan(table.widths))
    after = kept_positions(table, plan)
    for name, dims in after.items():
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        old: Tensor = getattr(owner, leaf)
        index = {d: _relative(before[name][d], kept, name).to(old.device) for d, kept in dims.items()}
        if all(len(i) == old.shape[d] for d, i in index.items()):
            continue
        new = _take(old, index)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
            if optimizer is not None:
                exchange(optimizer, old, new, lambda t, index=index: _take(t, index))
        setattr(owner, leaf, new)
    for place, value in kept_sizes(table, plan).items():
        _set_size(model, place, value)
    for layer in model.modules():
        _mend(layer)


def sliced_copy(model: nn.Module, table: GroupTable, plan: KeepPlan) -> nn.Module:
    """Return a sliced copy of a base model, which itself stays whole."""
    clone = copy.deepcopy(model)
    slice_model(clone, table, plan)
    return clone


def load_sliced(arch: str, tensors: Mapping[str, Tensor], outputs: int) -> nn.Module:
    """Return a network in its inference form with given tensors, whose sizes tell how many units each layer keeps.

    Args:
        arch: Architecture of the whole network.
        tensors: All tensors by name; only the counters of batch norms may be missing.
        outputs: Rows of its classifier.

    Raises:
        ValueError: the tensors are none of such a network.
    """
    model = new_inference_model(arch, outputs)
    for name, old in [*model.named_parameters(), *model.named_buffers()]:
        new = tensors.get(name)
        if new is None or new.shape == old.shape:
            continue
        path, _, leaf = name.rpartition(".")
        owner: Any = model.get_submodule(path)
        if isinstance(owner, CONVOLUTIONS) and owner.groups > 1 and leaf == "weight":
            owner.groups = owner.groups * len(new) // len(old)
        empty = torch.empty_like(new)
        setattr(owner, leaf, nn.Parameter(empty) if isinstance(old, nn.Parameter) else empty)
    for layer in model.modules():
        _mend(layer)
    load_weights(model, tensors)
    return model


def faithfulness(model: nn.Module, table: GroupTable, plan: KeepPlan, images: Tensor) -> float:
    """Return the largest difference between the sliced model and the whole model with the dropped units masked.

    Both are computed in double precision. The difference is relative to how far outputs lie apart, so that it means the
    same for outputs of any size.

    Args:
        model: The base model.
        table: Its groups.
        plan: The plan to try.
        images: Normalised images `(N, 3, H, W)`, two at least.

    Raises:
        PlanError: the difference exceeds 1e-5, the sliced model does not run, or its outputs ignore the image.
    """
    whole = copy.deepcopy(model).eval().requires_grad_(False).double()
    images = images.double()
    with torch.no_grad():
        try:
            actual = sliced_copy(whole, table, plan)(images)
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError, ZeroDivisionError) as e:
            raise PlanError(f"the sliced model does not run ({str(e).splitlines()[0]}); use another base model") from e
        with masked(whole, table, plan):
            expected = whole(images)
    spread = float((expected - expected.mean(0)).abs().max())
    if not spread > SILENT * float(expected.abs().max()):
        raise PlanError("the outputs of the masked model do not depend on the image; use another base model")
    worst = float((expected - actual).abs().max()) / spread
    if not worst <= FAITHFUL:
        raise PlanError(
            f"the sliced model differs from the masked one by {worst:.2g} (at most {FAITHFUL:g} is accepted); "
            "this base model cannot be sliced faithfully, use another"
        )
    return worst


@contextmanager
def masked(model: nn.Module, table: GroupTable, plan: KeepPlan) -> Iterator[None]:
    """Within the block, dropped units contribute nothing: their weights are zero, and norms over channels skip them."""
    kept = kept_positions(table, plan)
    handles, replaced = [], []
    for name, dims in kept.items():
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        tensor: Tensor = getattr(owner, leaf)
        mask = torch.ones_like(tensor)
        for dim, positions in dims.items():
            flags = torch.zeros(tensor.shape[dim], dtype=tensor.dtype, device=tensor.device)
            flags[positions.to(tensor.device)] = 1
            mask = mask * flags.view([-1 if d == dim else 1 for d in range(tensor.ndim)])
        replaced.append((tensor, tensor.data))
        tensor.data = tensor.data * mask
    for name in dict.fromkeys(norm.module for group in table.groups for norm in group.norms):
        layer = model.get_submodule(name)
        if isinstance(layer, CHANNEL_NORMS):
            positions = kept[f"{name}.weight"][0]
            handles.append(layer.register_forward_hook(_skipping_norm(layer, positions)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for tensor, data in replaced:
            tensor.data = data


def _skipping_norm(layer: nn.Module, positions: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """Return a hook that computes a norm over the kept channels only and returns zeros for the others."""
    small = copy.deepcopy(layer)
    small._forward_hooks.clear()
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(small, name, nn.Parameter(parameter.detach()[positions], requires_grad=False))
    if isinstance(layer, nn.GroupNorm) and isinstance(small, nn.GroupNorm) and layer.num_groups > 1:
        small.num_groups = layer.num_groups * len(positions) // layer.num_channels
    _mend(small)

    def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        axis = channel_axis(layer, args[0])
        assert axis is not None
        result = torch.zeros_like(output)
        return result.index_copy(axis, positions, small(args[0].index_select(axis, positions)))

    return hook


def _relative(have: Tensor, want: Tensor, name: str) -> Tensor:
    place = torch.searchsorted(have, want).clamp(max=len(have) - 1)
    if not torch.equal(have[place], want):
        raise PlanError(f"{name}: the plan keeps units that the model no longer has")
    return place


def _take(tensor: Tensor, index: dict[int, Tensor]) -> Tensor:
    value = tensor.detach()
    for dim, kept in index.items():
        value = value.index_select(dim, kept)
    channels_last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return value.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def exchange(
    optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter, take: Callable[[Tensor], Tensor]
) -> None:
    """Let an optimiser train a parameter instead of another; its per-element state becomes what `take` makes of it."""
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, {})
    kept = {k: take(v) if torch.is_tensor(v) and v.shape == old.shape else v for k, v in state.items()}
    if kept:
        optimizer.state[new] = kept


def _set_size(model: nn.Module, place: Place, value: int) -> None:
    module, attribute, item = place
    owner = model.get_submodule(module)
    if item is not None:
        values = list(getattr(owner, attribute))
        values[item] = value
        setattr(owner, attribute, type(getattr(owner, attribute))(values))
    else:
        setattr(owner, attribute, value)


def _mend(layer: Any) -> None:
    """Make a layer's own record of its sizes true again; the tensors are what counts."""
    if isinstance(layer, CONVOLUTIONS):
        transposed = "Transpose" in type(layer).__name__
        first, second = layer.weight.shape[:2]
        layer.in_channels, layer.out_channels = (
            (first, second * layer.groups) if transposed else (second * layer.groups, first)
        )
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.weight is not None:
        layer.num_features = len(layer.weight)
    elif isinstance(layer, nn.GroupNorm) and layer.weight is not None:
        layer.num_channels = len(layer.weight)
    elif isinstance(layer, CHANNEL_NORMS) and hasattr(layer, "normalized_shape") and layer.weight is not None:
        cast(Any, layer).normalized_shape = type(layer.normalized_shape)(layer.weight.shape)
