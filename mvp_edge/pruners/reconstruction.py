"""Networks with fewer hidden units, whose projections are solved in closed form on pictures: no training.

Each block of an EfficientNet widens its input, filters it and projects it back. Of the hidden units some are kept, and
the projection back is the linear regression of what the whole network's block gives out on what is kept, block after
block, so that a block also mends what those before it have lost (He et al., "Channel Pruning", 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.models.groups import GroupTable
from mvp_edge.models.macs import macs_by_module
from mvp_edge.models.plan import KeepPlan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy

PROJECTION = "conv_pwl"  # timm's name for what projects hidden units back
RIDGE = 1.0  # of the mean square of the hidden units; of 0.0001 to 1 the best on training images left out
AT_ONCE = 64  # pictures
TINY = 1e-6  # scale of a norm that nothing passes through
MULTIPLE = 8  # of units that go
LEAST = 0.2  # of a group's hidden units stay


def hidden_groups(table: GroupTable) -> tuple[str, ...]:
    """Return the groups of hidden units: each is read by one projection only."""
    return tuple(
        g.name for g in table.groups if len(g.consumers) == 1 and g.consumers[0].module.endswith(f".{PROJECTION}")
    )


def ever_fewer(prunable: PrunableModel, scores: Mapping[str, np.ndarray]) -> list[tuple[int, dict[str, int]]]:
    """Return ever smaller networks, the whole one first: multiply-adds of one image, and units of each group.

    Hidden units go eight at a time, first those whose share of their block's output is least for the multiply-adds that
    they cost, down to a fifth of each block's.

    Args:
        prunable: The whole network.
        scores: Result of `importance`.
    """
    done, steps = macs_by_module(prunable.model, prunable.base.input_size), list[tuple[float, str, int]]()
    for group in (g for g in prunable.table.groups if g.name in hidden_groups(prunable.table)):
        block = group.consumers[0].module.rpartition(".")[0]
        behind = _norm_name(prunable.model.get_submodule(block))  # all else in a block has to do with hidden units
        whole = sum(n for name, n in done.items() if name.startswith(f"{block}.") and name != f"{block}.{behind}")
        cost = MULTIPLE * whole // group.width
        able = np.sort(scores[group.name])[: MULTIPLE * int((1 - LEAST) * group.width / MULTIPLE)]
        steps += [(float(part.sum()) / cost, group.name, cost) for part in able.reshape(-1, MULTIPLE)]
    macs, counts = sum(done.values()), dict(prunable.table.widths)
    found = [(macs, dict(counts))]
    for _, name, cost in sorted(steps):
        macs, counts[name] = macs - cost, counts[name] - MULTIPLE
        found.append((macs, dict(counts)))
    return found


def counts_within(prunable: PrunableModel, scores: Mapping[str, np.ndarray], macs: int) -> dict[str, int]:
    """Return the units of the largest network of `ever_fewer` that needs at most so many multiply-adds for one image.

    Raises:
        ValueError: the smallest needs more.
    """
    for needed, counts in ever_fewer(prunable, scores):
        if needed <= macs:
            return counts
    raise ValueError(f"no share of the hidden units needs {macs} multiply-adds or fewer")


@torch.no_grad()
def importance(prunable: PrunableModel, images: Tensor) -> dict[str, np.ndarray]:
    """Return the share that each hidden unit has of how its block's output varies, `(width,)`; 0 in other groups.

    What is constant does not count, since the norm behind a projection can add it.

    Args:
        prunable: The network.
        images: `(N, 3, H, W)`, normalised.
    """
    network, seen = prunable.model.eval(), dict[str, Variance]()
    scores = {g.name: np.zeros(g.width) for g in prunable.table.groups}
    able = hidden_groups(prunable.table)
    blocks = {g.name: g.consumers[0].module.rpartition(".")[0] for g in prunable.table.groups if g.name in able}
    handles = []
    for place in blocks.values():
        block: Any = network.get_submodule(place)
        hidden, output = seen.setdefault(f"{place}.hidden", Variance()), seen.setdefault(place, Variance())
        handles.append(block.conv_pwl.register_forward_pre_hook(lambda _, given, to=hidden: to.add(given[0])))
        handles.append(block.register_forward_hook(lambda _, __, given, to=output: to.add(given)))
    for part in images.split(AT_ONCE):
        network(part)
    for handle in handles:
        handle.remove()
    for name, place in blocks.items():
        block = network.get_submodule(place)
        reach = (block.conv_pwl.weight.flatten(1) * _scale(block)[:, None]).square().sum(0)
        scores[name] = (seen[f"{place}.hidden"].of_each() * reach.double() / seen[place].of_each().sum()).numpy()
    return scores


class Variance:
    """The variance of each channel over what was added."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, torch.zeros(1).double(), torch.zeros(1).double()

    def add(self, values: Tensor) -> None:
        """Add values `(N, C, H, W)`."""
        self.count += values.numel() // values.shape[1]
        self.sum = self.sum + values.double().sum((0, 2, 3))
        self.squares = self.squares + values.double().square().sum((0, 2, 3))

    def of_each(self) -> Tensor:
        """Return `(C,)`."""
        return self.squares / self.count - (self.sum / self.count).square()


@torch.no_grad()
def reconstructed(prunable: PrunableModel, plan: KeepPlan, images: Tensor) -> nn.Module:
    """Return the sliced network, in evaluation mode, its projections solved on normalised images `(N, 3, H, W)`."""
    whole: Any = prunable.model.eval()
    sliced: Any = sliced_copy(prunable.model, prunable.table, plan).eval()
    x = y = [whole.bn1(whole.conv_stem(part)) for part in images.split(AT_ONCE)]
    for stage, stage_whole in zip(sliced.blocks, whole.blocks, strict=True):
        for block, block_whole in zip(stage, stage_whole, strict=True):
            y_next = [block_whole(part) for part in y]
            if hasattr(block, PROJECTION):
                _solve(block, x, y_next)
            x, y = [block(part) for part in x], y_next
    return sliced


def _scale(block: Any) -> Tensor:
    """Return what the norm behind a block's projection multiplies by, `(outputs,)`."""
    norm = _norm(block)
    return norm.weight / (norm.running_var + norm.eps).sqrt()


def _norm(block: Any) -> Any:
    return getattr(block, _norm_name(block))


def _norm_name(block: Any) -> str:
    return "bn3" if hasattr(block, "bn3") else "bn2"  # fused blocks have two norms


def _solve(block: Any, x: list[Tensor], wanted: list[Tensor]) -> None:
    """Set a block's projection, and the shift of the norm behind it, to give what is wanted as nearly as possible.

    Few pictures leave most of the solution open: it stays near the weights that the kept units had.
    """
    projection, norm, scale = block.conv_pwl, _norm(block), _scale(block)
    width = projection.weight.shape[1] + 1  # and a constant
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
