"""Networks with fewer hidden units, whose projections are solved in closed form on pictures: no training.

Each block of an EfficientNet widens its input, filters it and projects it back. Of the hidden units some are kept, and
the projection back is the linear regression of what the whole network's block gives out on what is kept, block after
block, so that a block also mends what those before it have lost (He et al., "Channel Pruning", 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.data import normalise
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.macs import count_macs
from mvp_edge.models.plan import KeepPlan, keep_count
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.pruners.units import top_plan

PROJECTION = "conv_pwl"  # timm's name for what projects hidden units back
RIDGE = 1.0  # of the mean square of the hidden units; of 0.0001 to 1 the best on training images left out
AT_ONCE = 64  # pictures
TINY = 1e-6  # scale of a norm that nothing passes through
MULTIPLE = 8  # of units kept


def hidden_groups(table: GroupTable) -> tuple[str, ...]:
    """Return the groups of hidden units: each is read by one projection only."""
    return tuple(
        g.name for g in table.groups if len(g.consumers) == 1 and g.consumers[0].module.endswith(f".{PROJECTION}")
    )


def counts_within(prunable: PrunableModel, macs: int) -> dict[str, int]:
    """Return how many units of each group are kept: the same share of all hidden ones, the largest within `macs`."""
    widths, hidden = prunable.table.widths, hidden_groups(prunable.table)
    for share in np.arange(0.95, 0.05, -0.025):
        counts = {n: keep_count(w, share, MULTIPLE) if n in hidden else w for n, w in widths.items()}
        scores = {n: np.zeros(w) for n, w in widths.items()}
        network = sliced_copy(prunable.model, prunable.table, top_plan(prunable.table, scores, counts))
        if count_macs(network, prunable.base.input_size) <= macs:
            return counts
    raise ValueError(f"no share of the hidden units needs {macs} multiply-adds or fewer")


@torch.inference_mode()
def importance(prunable: PrunableModel, images: Tensor) -> dict[str, np.ndarray]:
    """Return what each unit adds to its projection on uint8 images `(N, 3, H, W)`, `(width,)`; 0 in other groups."""
    scores = {g.name: np.zeros(g.width) for g in prunable.table.groups}
    by_layer = {g.consumers[0].module: g.name for g in prunable.table.groups if g.name in hidden_groups(prunable.table)}
    network, handles = prunable.model.eval(), []
    for module, name in by_layer.items():

        def add(layer: Any, given: tuple[Tensor, ...], name: str = name) -> None:
            energy = given[0].square().mean((0, 2, 3)) * layer.weight.square().sum((0, 2, 3))
            scores[name] = scores[name] + len(given[0]) * energy.double().numpy()

        handles.append(network.get_submodule(module).register_forward_pre_hook(add))
    for part in images.split(AT_ONCE):
        network(normalise(part, prunable.base.mean, prunable.base.std))
    for handle in handles:
        handle.remove()
    return scores


@torch.inference_mode()
def reconstructed(prunable: PrunableModel, plan: KeepPlan, images: Tensor) -> nn.Module:
    """Return the sliced network with its projections solved on uint8 images `(N, 3, H, W)`, in evaluation mode."""
    whole: Any = prunable.model.eval()
    sliced: Any = sliced_copy(prunable.model, prunable.table, plan).eval()
    mean, std = prunable.base.mean, prunable.base.std
    x = y = [whole.bn1(whole.conv_stem(normalise(part, mean, std))) for part in images.split(AT_ONCE)]
    for stage, stage_whole in zip(sliced.blocks, whole.blocks, strict=True):
        for block, block_whole in zip(stage, stage_whole, strict=True):
            y_next = [block_whole(part) for part in y]
            if hasattr(block, PROJECTION):
                _solve(block, x, y_next)
            x, y = [block(part) for part in x], y_next
    return sliced


def _solve(block: Any, x: list[Tensor], wanted: list[Tensor]) -> None:
    """Set a block's projection, and the shift of the norm behind it, to give what is wanted as nearly as possible.

    Few pictures leave most of the solution open: it stays near the weights that the kept units had.
    """
    projection, norm = block.conv_pwl, getattr(block, "bn3", None) or block.bn2  # fused blocks have two norms
    width = projection.weight.shape[1] + 1  # and a constant
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    start = torch.cat([projection.weight.flatten(1) * scale[:, None], torch.zeros(len(scale), 1)], 1).double()
    gram, missing = torch.zeros(width, width, dtype=torch.double), torch.zeros(width, len(scale), dtype=torch.double)
    shift = norm.bias - norm.running_mean * scale
    seen: list[Tensor] = []
    handle = projection.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for part, want in zip(x, wanted, strict=True):
        block(part)
        hidden = seen.pop()
        want = (want - part if block.has_skip else want) - shift[:, None, None]
        rows = torch.cat([hidden, torch.ones_like(hidden[:, :1])], 1).transpose(0, 1).flatten(1)
        gram += (rows @ rows.T).double()
        missing += (rows @ want.transpose(0, 1).flatten(1).T).double()
    handle.remove()
    decay = RIDGE * gram.diagonal()[:-1].mean() * torch.ones(width, dtype=torch.double)
    decay[-1] = 0
    change = torch.linalg.solve(gram + decay.diag(), missing - gram @ start.T).T
    solved = (start + change).float()  # (outputs, hidden + 1)
    safe = torch.where(scale.abs() < TINY, torch.ones_like(scale), scale)
    projection.weight.copy_((solved[:, :-1] / safe[:, None])[:, :, None, None])
    norm.bias.add_(solved[:, -1])
