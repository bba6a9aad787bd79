"""UVC: heads, MLP nodes and whole blocks of a vision transformer removed together under one bound on the FLOPs.

A primal-dual search: how many heads and nodes each block loses, and whether it runs at all, are variables; a dual price
on the FLOPs grows while they exceed the bound, and a dual on each branch shrinks the units that are to go. Of the
published method this leaves out pruning within heads and skipping of patches. What goes is cut out physically. Written
for timm's plain `VisionTransformer`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from benchmarks.baselines.masked import dense_copy, fit_head, source_of
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.core.streams import torch_rng
from mvp_edge.models.architectures import head_of
from mvp_edge.training.loop import fit
from mvp_edge.training.optimizers import make_optimizer

KINDS = ("heads", "nodes")


class GatedBlock(nn.Module):
    """A block that a learnable gate skips: sampled (Gumbel) in training, open or closed in evaluation."""

    def __init__(self, block: Any, temperature: float = 0.5) -> None:
        super().__init__()
        self.block, self.temperature = block, temperature
        self.gate = nn.Parameter(torch.tensor(2.0))

    @property
    def is_open(self) -> bool:
        """Whether the block runs."""
        return float(self.gate.detach()) >= 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, or more or less of its input."""
        if not self.training:
            return self.block(x) if self.is_open else x
        u = torch.rand((), device=x.device).clamp(1e-6, 1 - 1e-6)
        gate = torch.sigmoid((self.gate + torch.log(u) - torch.log1p(-u)) / self.temperature)
        return x + gate * (self.block(x) - x)


class Ledger:
    """What is to be removed from each block, and what the network then costs, as a fraction of the whole.

    Attributes:
        out: Heads and nodes to be removed from each block, as real numbers `(blocks, 2)`.
        prices: Dual of each branch's norm of what is to go `(blocks, 2)`.
        price: Dual of the FLOPs.
    """

    def __init__(self, blocks: list[GatedBlock], tokens: int, fixed: float) -> None:
        self.blocks = blocks
        self.sizes = torch.tensor([[b.block.attn.num_heads, b.block.mlp.fc1.out_features] for b in blocks])
        self.unit = torch.tensor([_block_costs(b.block, tokens) for b in blocks], dtype=torch.float64)
        self.dense = fixed + float((self.unit * self.sizes).sum())
        self.fixed = fixed / self.dense
        self.unit = self.unit / self.dense
        self.out = torch.zeros(len(blocks), 2, dtype=torch.float64)
        self.prices = torch.zeros(len(blocks), 2, dtype=torch.float64)
        self.price = 0.0

    def open_shares(self) -> Tensor:
        """Return how far each gate is open `(blocks,)`, in (0, 1)."""
        return torch.stack([torch.sigmoid(b.gate.detach()).double().cpu() for b in self.blocks])

    def flops(self, out: Tensor | None = None, gates: Tensor | None = None) -> float:
        """Return the cost of what is left, as a fraction of the whole network's."""
        left = self.sizes - (self.out if out is None else out)
        gates = self.open_shares() if gates is None else gates
        return self.fixed + float((gates[:, None] * self.unit * left).sum())


@dataclass(frozen=True)
class Uvc:
    """Unified compression under a bound, then fine-tuning of what is left.

    The published search takes tens of thousands of steps; the rates are larger here, so that some dozens reach the
    bound and shrink what is to go to next to nothing before it is cut.

    Attributes:
        keep: Bound on the FLOPs, as a fraction of the whole network's.
        share: Part of the iterations for the search; the rest fine-tunes.
        size_lr: Rate of the numbers of units to remove, as fractions of a block's units.
        shrink_lr: Rate of the shrinking of their weights.
        norm_lr: Rate of the duals of norms.
        price_lr: Rate of the dual of FLOPs.
        gate_lr: Peak rate of the gates.

    References:
        Yu et al., "Unified Visual Transformer Compression", 2022.
    """

    keep: float = 0.1
    share: float = 0.5
    size_lr: float = 0.2
    shrink_lr: float = 0.5
    norm_lr: float = 0.05
    price_lr: float = 1.0
    gate_lr: float = 0.1

    def __call__(self, setting: Setting, config: FitConfig) -> nn.Module:
        """Compress a copy of the base model on the setting's task."""
        vit: Any = dense_copy(setting)
        fit_head(setting, vit)
        gated = [GatedBlock(block).to(setting.device) for block in vit.blocks]
        ledger = Ledger(gated, tokens_of(vit), fixed_macs(vit))
        vit.blocks = nn.Sequential(*gated)
        search = replace(config, iterations=max(1, round(self.share * config.iterations)))
        self._search(vit, ledger, setting, search)
        vit.blocks = nn.Sequential(*cut(ledger, enforced(ledger, self.keep)))
        rest = replace(config, iterations=max(1, config.iterations - search.iterations))
        source = source_of(replace(setting, seed=setting.seed + 100), rest, teacher_of(setting, rest))
        fit(vit, source, rest, optimizer=make_optimizer(vit, rest))
        return vit

    def _search(self, vit: nn.Module, ledger: Ledger, setting: Setting, config: FitConfig) -> None:
        gates = [b.gate for b in ledger.blocks]
        optimizer = make_optimizer(vit, config)
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if not any(p is g for g in gates)]
        optimizer.add_param_group({"params": gates, "weight_decay": 0.0, "scale": self.gate_lr / config.lr})
        handles = [g.register_hook(_priced(ledger, i)) for i, g in enumerate(gates)]

        def after_step(step: int, loss: Tensor) -> None:
            dual_step(ledger, self)

        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(torch_rng(setting.seed, "uvc/gates").initial_seed())
                source = source_of(setting, config, teacher_of(setting, config))
                fit(vit, source, config, optimizer=optimizer, after_step=after_step)
        finally:
            for handle in handles:
                handle.remove()


def teacher_of(setting: Setting, config: FitConfig) -> Tensor | None:
    """Return the logits `(N, C)` of the base model, which teaches what is made of it; None without distillation."""
    return setting.teacher if config.distill > 0 else None


def dual_step(ledger: Ledger, config: Uvc) -> None:
    """Shrink what is to go, move the numbers of units, and let the prices follow what is violated."""
    gates = ledger.open_shares()
    for number, gated in enumerate(ledger.blocks):
        for k, kind in enumerate(KINDS):
            norms = unit_norms(gated.block, kind).cpu().double()
            order = norms.argsort()
            count = min(int(torch.ceil(ledger.out[number, k])), len(norms) - 1)
            price, size = float(ledger.prices[number, k]), float(ledger.sizes[number, k])
            scale_units(gated.block, kind, order[:count], 1 / (1 + 2 * config.shrink_lr * price))
            # One more unit costs the norm of the next smallest, relatively, and saves its FLOPs at their price.
            pull = ledger.price * float(gates[number] * ledger.unit[number, k]) * size
            push = price * float((norms[order[count]] / norms[order[-1]]) ** 2)
            moved = float(ledger.out[number, k]) + config.size_lr * size * (pull - push)
            ledger.out[number, k] = min(max(moved, 0.0), size - 1)
            violated = float(norms[order[:count]].square().sum() / norms.square().sum())
            ledger.prices[number, k] = max(0.0, price + config.norm_lr * violated)
    ledger.price = max(0.0, ledger.price + config.price_lr * (ledger.flops() - config.keep))


def _priced(ledger: Ledger, number: int):
    """Return a hook that adds the price of a block's FLOPs to the gradient of its gate."""

    def hook(gradient: Tensor) -> Tensor:
        left = ledger.sizes[number] - ledger.out[number]
        p = float(ledger.open_shares()[number])
        return gradient + ledger.price * float((ledger.unit[number] * left).sum()) * p * (1 - p)

    return hook


def enforced(ledger: Ledger, bound: float) -> tuple[Tensor, Tensor]:
    """Return whole numbers of units to remove `(blocks, 2)` and gates `(blocks,)` that meet the bound, and use it.

    What the search left above it goes unit by unit, the least norm for the FLOPs saved first, and what it took below
    comes back in the opposite order. Where every block is down to one head and one node, the blocks themselves close,
    the last first.

    Raises:
        ValueError: the bound is less than what no block costs.
    """
    out = ledger.out.floor()
    gates = torch.tensor([float(b.is_open) for b in ledger.blocks], dtype=torch.float64)
    worth = {(n, k): _worth(ledger, n, k) for n in range(len(ledger.blocks)) for k in range(len(KINDS))}

    def at(number: int, k: int) -> int:
        return int(out[number, k])

    while ledger.flops(out, gates) > bound:
        able = [(n, k) for n, k in worth if gates[n] > 0 and out[n, k] < ledger.sizes[n, k] - 1]
        if able:
            out[min(able, key=lambda place: worth[place][at(*place)])] += 1
        elif gates.any():
            gates[int(gates.nonzero().max())] = 0
        else:
            raise ValueError(f"the bound {bound:g} is less than the {ledger.fixed:.3f} that remain without any block")
    room = bound - ledger.flops(out, gates)
    while able := [p for p in worth if gates[p[0]] > 0 and out[p] > 0 and ledger.unit[p] <= room]:
        best = max(able, key=lambda place: worth[place][at(*place) - 1])
        out[best] -= 1
        room -= float(ledger.unit[best])
    return out, gates


def _worth(ledger: Ledger, number: int, k: int) -> list[float]:
    """Return the share of its branch's squared norm that each unit has, for the FLOPs it costs, the least first."""
    norms = unit_norms(ledger.blocks[number].block, KINDS[k]).cpu().double().sort().values
    return (norms.square() / norms.square().sum() / ledger.unit[number, k]).tolist()


def cut(ledger: Ledger, choice: tuple[Tensor, Tensor]) -> list[nn.Module]:
    """Return the blocks that run, without the units that go."""
    out, gates = choice
    found: list[nn.Module] = []
    for number, gated in enumerate(ledger.blocks):
        if gates[number] > 0:
            block = gated.block
            for k, kind in enumerate(KINDS):
                keep = unit_norms(block, kind).argsort()[int(out[number, k]) :].sort().values
                keep_units(block, kind, keep)
            found.append(block)
    return found


def unit_norms(block: Any, kind: str) -> Tensor:
    """Return the norm of each head's or node's weights `(units,)`."""
    attn, mlp = block.attn, block.mlp
    if kind == "nodes":
        squares = mlp.fc1.weight.square().sum(1) + mlp.fc2.weight.square().sum(0)
    else:
        into = attn.qkv.weight.reshape(3, attn.num_heads, -1).square().sum((0, 2))
        squares = into + attn.proj.weight.reshape(len(attn.proj.weight), attn.num_heads, -1).square().sum((0, 2))
    return squares.detach().sqrt()


@torch.no_grad()
def scale_units(block: Any, kind: str, units: Tensor, factor: float) -> None:
    """Multiply the weights of some heads or nodes."""
    attn, mlp = block.attn, block.mlp
    units = units.to(attn.proj.weight.device)
    if kind == "nodes":
        mlp.fc1.weight[units] *= factor
        mlp.fc2.weight[:, units] *= factor
    else:
        attn.qkv.weight.view(3, attn.num_heads, attn.head_dim, -1)[:, units] *= factor
        attn.proj.weight.view(-1, attn.num_heads, attn.head_dim)[:, units] *= factor


def keep_units(block: Any, kind: str, units: Tensor) -> None:
    """Cut a block down to some heads or nodes."""
    attn, mlp = block.attn, block.mlp
    if kind == "nodes":
        out = _others(units, mlp.fc1.out_features)
        tp.prune_linear_out_channels(mlp.fc1, out)
        tp.prune_linear_in_channels(mlp.fc2, out)
        return
    channels = (units.cpu()[:, None] * attn.head_dim + torch.arange(attn.head_dim)).flatten()
    three = torch.cat([channels + part * attn.attn_dim for part in range(3)])
    tp.prune_linear_out_channels(attn.qkv, _others(three, attn.qkv.out_features))
    tp.prune_linear_in_channels(attn.proj, _others(channels, attn.proj.in_features))
    attn.num_heads, attn.attn_dim = len(units), len(channels)


def _others(kept: Tensor, width: int) -> list[int]:
    return sorted(set(range(width)) - set(kept.tolist()))


def tokens_of(vit: Any) -> int:
    """Return the tokens that the blocks see."""
    return int(vit.patch_embed.num_patches) + int(vit.num_prefix_tokens)


def fixed_macs(vit: Any) -> float:
    """Return the multiply-adds of the patch embedding and the head, which stay."""
    head = head_of(vit)
    return float(vit.patch_embed.num_patches * vit.patch_embed.proj.weight.numel() + head.weight.numel())


def _block_costs(block: Any, tokens: int) -> tuple[float, float]:
    """Return the multiply-adds of one head and of one node of a block, for one image."""
    dim, head = block.mlp.fc1.in_features, block.attn.head_dim
    return tokens * 4 * dim * head + 2 * tokens**2 * head, tokens * 2.0 * dim
