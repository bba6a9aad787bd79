"""PoWER: a vision transformer whose blocks pass on fewer and fewer tokens, the most attended ones.

The weights stay as they are; a network is cheaper because it works on fewer tokens. Written for timm's plain
`VisionTransformer`; a class token (any prefix token) always stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.baselines.masked import dense_copy, fit_head, source_of
from benchmarks.setting import Setting
from mvp_edge.config import FitConfig
from mvp_edge.models.attention import embed_tokens
from mvp_edge.training.loop import fit
from mvp_edge.training.optimizers import make_optimizer


def attended(block: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a block's tokens `(B, N, D)` after attention, and the attention each receives `(B, N)`.

    It is averaged over heads; what a token pays to itself does not count.

    Args:
        block: Of a vision transformer.
        x: Tokens `(B, N, D)`.
        weight: How much each token is there `(B, N)`, in [0, 1]: what is not there pays and receives nothing.
    """
    attn, (b, n, _) = block.attn, x.shape
    qkv = attn.qkv(block.norm1(x)).reshape(b, n, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    scores = ((attn.q_norm(q) * attn.scale) @ attn.k_norm(k).transpose(-2, -1)).softmax(-1)
    scores = nn.functional.normalize(scores * weight[:, None, None], p=1, dim=-1)
    out = attn.proj(attn.norm((scores @ v).transpose(1, 2).reshape(b, n, -1)))
    paid = scores.mean(1) * weight[..., None]
    return x + block.ls1(out), paid.sum(1) - paid.diagonal(dim1=1, dim2=2)


class PowerViT(nn.Module):
    """A vision transformer with extraction between the attention and the MLP of every block.

    While `kept` is None, the k-th most attended token of block l stays with the weight `retention[l, k]` in [0, 1];
    else only the `kept[l]` most attended ones go on. The paper multiplies the token itself. Here the norm before the
    next block would undo that, so the weight tells how much later attention and the pooling see of the token: with
    weights of 0 and 1 both networks are the same.

    References:
        Goyal et al., "PoWER-BERT: Accelerating BERT Inference via Progressive Word-vector Elimination", 2020.
    """

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit
        self.prefix = int(vit.num_prefix_tokens)
        self.tokens = int(vit.patch_embed.num_patches)
        self.retention = nn.Parameter(torch.ones(len(vit.blocks), self.tokens))
        self.kept: tuple[int, ...] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, C)`."""
        vit = self.vit
        x = vit.norm_pre(vit.patch_drop(embed_tokens(vit, vit.patch_embed(images))))
        weight = x.new_ones(x.shape[:2])
        for number, block in enumerate(vit.blocks):
            x, received = attended(block, x, weight)
            x, weight = self._extract(x, weight, received, number)
            x = x + block.ls2(block.mlp(block.norm2(x)))
        return vit.forward_head(self._pooled(vit.norm(x), weight))

    def _extract(self, x: Tensor, weight: Tensor, received: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Return the tokens that go on, and how much each is there."""
        order = received[:, self.prefix :].argsort(1, descending=True) + self.prefix
        if self.kept is None:
            factor = self.retention[number].clamp(0, 1).to(weight.dtype).expand_as(order)
            return x, weight * torch.ones_like(weight).scatter(1, order, factor)
        front = torch.arange(self.prefix, device=x.device).expand(len(x), -1)
        chosen = torch.cat([front, order[:, : self.kept[number]]], 1)
        return x.gather(1, chosen[..., None].expand(-1, -1, x.shape[2])), weight.gather(1, chosen)

    def _pooled(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the tokens with one in the place of all patches: their mean, each as far as it is there."""
        if self.vit.global_pool != "avg":
            return x
        share = nn.functional.normalize(weight[:, self.prefix :], p=1, dim=1)
        return torch.cat([x[:, : self.prefix], (share[:, None] @ x[:, self.prefix :])], 1)


def kept_tokens(retention: Tensor, share: float) -> tuple[int, ...]:
    """Return how many tokens each block passes on: never more than the block before, and `share` of all on average.

    They are as many as may be, in proportion to what the blocks ask for; every block passes on one at least.

    Args:
        retention: Learnt factors `(blocks, tokens)`; their sum over a block is the number that it asks for.
        share: The mean over blocks, as a fraction of all tokens.
    """
    blocks, tokens = retention.shape
    budget = int(share * tokens * blocks)
    asked = retention.detach().clamp(0, 1).sum(1).clamp_min(1 / tokens).tolist()
    low, high = 0.0, float(tokens**2)  # at the highest all tokens go on
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(_counts(asked, middle, tokens)) <= budget else (low, middle)
    counts = _counts(asked, high, tokens)
    if sum(counts) > budget:
        counts = _counts(asked, low, tokens)
    while sum(counts) < min(budget, tokens * blocks):  # blocks that ask for the same step up together
        may_grow = (i for i, c in enumerate(counts) if c < (counts[i - 1] if i else tokens))
        counts[max(may_grow, key=lambda i: high * asked[i] - counts[i])] += 1
    return tuple(counts)


def _counts(asked: Sequence[float], scale: float, tokens: int) -> list[int]:
    counts, most = [], tokens
    for value in asked:
        most = max(1, min(most, int(scale * value)))
        counts.append(most)
    return counts


INSIDE = 1e-3  # of the bounds, where clamping still passes gradients on


@dataclass(frozen=True)
class Power:
    """Fine-tune, learn which tokens go (soft), drop them and train again (hard), within the given iterations.

    Attributes:
        keep: Tokens that go on, on average over the blocks.
        shares: Parts of the iterations for fine-tuning and for the soft phase; the rest is the hard one.
        sparsity: Weight of the retention's L1 norm, times the number of the block, so that deep blocks keep less; it
            acts while more than `keep` is retained, for in so few iterations no fixed weight ends near that. At ten
            times this one the penalty outweighs the task and deep blocks keep next to nothing.
        retention_lr: Peak rate of the retention.
    """

    keep: float = 0.1
    shares: tuple[float, float] = (0.2, 0.3)
    sparsity: float = 3e-4
    retention_lr: float = 0.1

    def __call__(self, setting: Setting, config: FitConfig) -> PowerViT:
        """Train a copy of the base model on the setting's task."""
        vit = dense_copy(setting)
        fit_head(setting, vit)
        model = PowerViT(vit).to(setting.device)
        first, second = (max(1, round(share * config.iterations)) for share in self.shares)
        tune(model.vit, setting, config, first, 0)
        handle = model.retention.register_hook(partial(self._penalised, model.retention.data))
        try:
            tune(model, setting, config, second, 1, {"params": [model.retention], "rate": self.retention_lr})
        finally:
            handle.remove()
        model.kept = kept_tokens(model.retention, self.keep)
        tune(model, setting, config, max(1, config.iterations - first - second), 2)
        return model

    def _penalised(self, retention: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient of the loss and the penalty; what has left [0, 1], where it has none, is put back."""
        retention.clamp_(INSIDE, 1 - INSIDE)
        if float(retention.mean()) <= self.keep:
            return gradient
        depth = torch.arange(1, len(retention) + 1, device=retention.device)[:, None]
        return gradient + self.sparsity * depth


def tune(
    model: nn.Module,
    setting: Setting,
    config: FitConfig,
    iterations: int,
    part: int,
    extra: dict[str, Any] | None = None,
) -> None:
    """Train a network for one part of a method's iterations, on batches of its own."""
    config = replace(config, iterations=iterations)
    optimizer = make_optimizer(model.vit if isinstance(model, PowerViT) else model, config)
    if extra is not None:
        scale = extra["rate"] / config.lr
        optimizer.add_param_group({"params": extra["params"], "weight_decay": 0.0, "scale": scale})
    source = source_of(replace(setting, seed=setting.seed + 100 * part), config)
    fit(model, source, config, optimizer=optimizer)
