"""Physical slicing: tensors get smaller, no mask is left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mvp_edge.core.errors import PlanError
from mvp_edge.models.attention import is_attention, mend_attention
from mvp_edge.models.groups import Consumer, GroupTable, kept_positions
from mvp_edge.models.plan import KeepPlan, full_plan

FAITHFUL = 1e-5


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
    for layer in model.modules():
        _mend(layer)


def sliced_copy(model: nn.Module, table: GroupTable, plan: KeepPlan) -> nn.Module:
    """Return a sliced copy of a base model, which itself stays whole."""
    clone = copy.deepcopy(model)
    slice_model(clone, table, plan)
    return clone


def faithfulness(model: nn.Module, table: GroupTable, plan: KeepPlan, images: Tensor) -> float:
    """Return the largest difference between the sliced model and the whole model with the dropped units masked.

    Args:
        model: The base model.
        table: Its groups.
        plan: The plan to try.
        images: Normalised images `(N, 3, H, W)`.

    Raises:
        PlanError: the difference exceeds 1e-5 of the outputs' scale, or the sliced model does not run.
    """
    whole = copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        with masked(whole, table, plan):
            expected = whole(images)
        try:
            actual = sliced_copy(model, table, plan).eval()(images)
        except RuntimeError as e:
            raise PlanError(f"the sliced model does not run ({e}); this base model is not supported") from e
    worst = float((expected - actual).abs().max())
    if not worst <= FAITHFUL * max(1.0, float(expected.abs().max())):
        raise PlanError(
            f"the sliced model differs from the masked one by {worst:.2g} (at most {FAITHFUL:g} is accepted); "
            "this base model cannot be sliced faithfully, use another"
        )
    return worst


@contextmanager
def masked(model: nn.Module, table: GroupTable, plan: KeepPlan) -> Iterator[None]:
    """Within the block, dropped units contribute nothing: layers see zeros for them, and layer norms skip them."""
    handles = []
    for group in table.groups:
        kept = set(plan[group.name])
        for consumer in group.consumers:
            layer = model.get_submodule(consumer.module)
            mask = _mask(consumer, kept, layer)
            handles.append(layer.register_forward_pre_hook(lambda _, args, mask=mask: (args[0] * mask, *args[1:])))
        for consumer in group.norms:
            layer = model.get_submodule(consumer.module)
            if isinstance(layer, nn.LayerNorm):
                handles.append(layer.register_forward_hook(_masked_layer_norm(_mask(consumer, kept, layer))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mask(consumer: Consumer, kept: set[int], layer: nn.Module) -> Tensor:
    parameter = next(layer.parameters())
    channels = getattr(layer, "in_channels", None) or getattr(layer, "in_features", None)
    mask = torch.ones(
        channels or 1 + max(p[-1] for p in consumer.index), device=parameter.device, dtype=parameter.dtype
    )
    mask[[p for unit, places in enumerate(consumer.index) if unit not in kept for p in places]] = 0
    return mask.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else mask


def _masked_layer_norm(mask: Tensor) -> Callable[[nn.LayerNorm, tuple[Tensor, ...], Tensor], Tensor]:
    """Layer norm whose mean and variance are those of the kept channels."""

    def hook(layer: nn.LayerNorm, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x = args[0]
        channels_first = (x.ndim == 4 and x.shape[-1] != mask.numel()) or type(layer).__name__.endswith("2d")
        x = x.movedim(1, -1) if channels_first else x
        n = mask.sum()
        mean = (x * mask).sum(-1, keepdim=True) / n
        var = ((x - mean).square() * mask).sum(-1, keepdim=True) / n
        y = (x - mean) / torch.sqrt(var + layer.eps) * layer.weight + layer.bias
        return (y * mask).movedim(-1, 1) if channels_first else y * mask

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


def _mend(layer: nn.Module) -> None:
    """Make a layer's own record of its sizes true again; the tensors are what counts."""
    if isinstance(layer, nn.Conv2d):
        out, per_group = layer.weight.shape[:2]
        if layer.groups > 1:
            layer.groups = layer.groups * out // layer.out_channels
        layer.out_channels, layer.in_channels = out, per_group * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.weight is not None:
        layer.num_features = len(layer.weight)
    elif isinstance(layer, nn.LayerNorm) and layer.weight is not None:
        layer.normalized_shape = tuple(layer.weight.shape)
    elif is_attention(layer):
        mend_attention(layer)
