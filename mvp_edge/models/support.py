"""Which groups of a network are sliced faithfully: a trial on random weights, before anything is trained.

Slicing must equal masking. The trial gives the network random norms that leave its activations at a usual scale, keeps
a random third of every group and compares in double precision. Groups for which the two differ are refused one by one;
the others stay.
"""

from __future__ import annotations

import contextlib
import copy
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from mvp_edge.config import Embedding
from mvp_edge.core.atomic import write_atomically
from mvp_edge.core.errors import ConfigError, PlanError
from mvp_edge.core.places import cache_dir
from mvp_edge.models.architectures import head_of, new_inference_model
from mvp_edge.models.bases import Base
from mvp_edge.models.groups import Group, GroupTable, find_groups
from mvp_edge.models.layer_kinds import CHANNEL_NORMS, WEIGHTED
from mvp_edge.models.macs import macs_by_module
from mvp_edge.models.plan import KeepPlan, make_plan
from mvp_edge.models.slicing import faithfulness

CODE = ("groups", "slicing", "tracing", "tracer", "ties", "marks", "layer_kinds", "layer_rules", "shape_rules", "views")
"""Modules of this room that decide which groups there are."""
SMALL = (64, 64)
BATCH = 3
REFUSALS = (RuntimeError, AssertionError, ValueError, IndexError, TypeError)  # of an image: each kind has its own
TRIALS = 40  # of a network; groups that would need more are refused


@dataclass(frozen=True)
class Trial:
    """What a network's groups did in the trial.

    Attributes:
        table: The groups that are sliced faithfully.
        refused: Names of the others, with the reason.
        difference: Largest difference of the sliced network with all of `table` from the masked one, relative to the
            spread of its outputs.
    """

    table: GroupTable
    refused: dict[str, str]
    difference: float


@dataclass(frozen=True)
class Support:
    """What of a network can be pruned.

    Attributes:
        arch: Name of the architecture.
        input_size: (H, W) in pixels of the image that it was tried on.
        groups: Number of groups that are sliced faithfully.
        refused: Names of groups that are not, with the reason.
        params_share: Share of the parameters in layers of which some units can be pruned, in [0, 1].
        macs_share: Share of the multiply-adds at the base's own input size, likewise.
        whole: Multiply-adds of layers that stay whole, by name, the most expensive first.
        difference: See `Trial`.
        head: Empty if the classifier can be cut to any classes, else the reason.
    """

    arch: str
    input_size: tuple[int, int]
    groups: int
    refused: dict[str, str]
    params_share: float
    macs_share: float
    whole: dict[str, int]
    difference: float
    head: str = ""


def random_network(base: Base, classes: int) -> nn.Module:
    """Return a base model's network in its inference form, with the same random weights each time.

    Raises:
        ConfigError: timm does not know the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return new_inference_model(base.arch, classes)


def check_architecture(base: Base, model: nn.Module) -> tuple[Support, Trial]:
    """Return what of a base model's network can be pruned.

    Args:
        base: Says which images it takes.
        model: The network in its inference form.

    Raises:
        PlanError: nothing can be pruned.
    """
    size = trial_size(model, base.input_size)
    trial = try_groups(model, find_groups(model, size, base.embedding), size)
    macs = macs_by_module(model, base.input_size)
    sliced = {d.tensor for group in trial.table.groups for d in group.dimensions}
    whole = {name: n for name, n in macs.items() if n and f"{name}.weight" not in sliced}
    params = {name: p.numel() for name, p in model.named_parameters()}
    try:
        head_of(model)
        reason = ""
    except ConfigError as e:
        reason = str(e)
    support = Support(
        base.arch, size, len(trial.table.groups), trial.refused,
        sum(n for name, n in params.items() if name in sliced) / sum(params.values()),
        1 - sum(whole.values()) / sum(macs.values()),
        dict(sorted(whole.items(), key=lambda item: -item[1])), trial.difference, reason,
    )  # fmt: skip
    return support, trial


def faithful_groups(
    model: nn.Module, arch: str, input_size: tuple[int, int], embedding: Embedding = "whole"
) -> GroupTable:
    """Return the groups of a network that are sliced faithfully, from the cache if it was tried before.

    Args:
        model: A network in its inference form.
        arch: Name of its architecture.
        input_size: (H, W) of an image that it accepts.
        embedding: See `find_groups`.

    Raises:
        PlanError: nothing can be pruned.
    """
    path = cache_dir() / "groups" / f"{arch}-{_fingerprint(model, input_size, embedding)}.json.gz"
    with contextlib.suppress(OSError, EOFError, zlib.error, msgspec.MsgspecError):  # else it is made anew
        return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=GroupTable)
    size = trial_size(model, input_size)
    table = try_groups(model, find_groups(model, size, embedding), size).table
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time only
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, gzip.compress(msgspec.json.encode(table), 1, mtime=0))
    return table


def _fingerprint(model: nn.Module, input_size: tuple[int, int], embedding: Embedding) -> str:
    """Return what tells apart networks, or versions of the code, whose groups may differ."""
    code = [Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in CODE]
    shapes = [(name, list(t.shape)) for name, t in model.state_dict().items()]
    value = [repr(model), shapes, input_size, embedding, version("torch"), version("timm"), code]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def trial_size(model: nn.Module, input_size: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest image to try a network on: 64 pixels if it takes them, else its own size."""
    if min(input_size) <= SMALL[0]:
        return input_size
    try:
        with torch.no_grad():
            copy.deepcopy(model).eval()(torch.zeros(1, 3, *SMALL))
    except REFUSALS:
        return input_size
    return SMALL


def try_groups(model: nn.Module, table: GroupTable, input_size: tuple[int, int]) -> Trial:
    """Return the groups that are sliced faithfully.

    Args:
        model: A network; only its structure matters, it is left as it was.
        table: Its groups.
        input_size: (H, W) of an image that it accepts.

    Raises:
        PlanError: no group is sliced faithfully.
    """
    images = torch.randn(BATCH, 3, *input_size, generator=torch.Generator().manual_seed(0))
    trials = _Trials(lively(model, images), images, table)
    kept = trials.largest()
    if not kept:
        reason = next(iter(trials.refused.values()), "")
        raise PlanError(f"no group of this network is sliced faithfully ({reason}); use another base model")
    names = {g.name for g in kept}
    return Trial(GroupTable(tuple(g for g in table.groups if g.name in names)), trials.refused, trials.difference)


class _Trials:
    """Looks for groups that can be sliced together; those of the same layer in repeated blocks mostly share fate."""

    def __init__(self, model: nn.Module, images: Tensor, table: GroupTable) -> None:
        self._model, self._images, self._table = model, images, table
        self._left, self._last = TRIALS, 0.0
        self.refused: dict[str, str] = {}
        self.difference = 0.0

    def largest(self) -> list[Group]:
        """Return the groups that can be sliced together."""
        every = self._table.groups
        if self._fails(every) is None:
            self.difference = self._last
            return list(every)
        kinds: dict[str, list[Group]] = {}
        for group in every:
            kinds.setdefault(re.sub(r"\d+", "*", group.name), []).append(group)
        sure: list[Group] = []
        for groups in sorted(kinds.values(), key=len, reverse=True):
            sure = self._added(sure, groups)
        return sure

    def _added(self, sure: list[Group], tried: list[Group]) -> list[Group]:
        reason = self._fails([*sure, *tried])
        if reason is None:
            self.difference = self._last
            return [*sure, *tried]
        half = len(tried) // 2
        if len(tried) == 1 or (half > 1 and self._fails([*sure, tried[0]]) and self._fails([*sure, tried[-1]])):
            self.refused |= {g.name: reason for g in tried}
            return sure
        return self._added(self._added(sure, tried[:half]), tried[half:])

    def _fails(self, groups: Sequence[Group]) -> str | None:
        """Return why groups cannot be sliced together; None if they can."""
        if self._left == 0:
            return "too many of its groups fail to try each one"
        self._left -= 1
        try:
            plan = third(self._table, {g.name for g in groups})
            self._last = faithfulness(self._model, self._table, plan, self._images)
        except PlanError as e:
            return str(e)
        return None


def third(table: GroupTable, names: set[str]) -> KeepPlan:
    """Return a plan that keeps a random third of the groups named, at least one unit, and all of the others."""
    draw = np.random.default_rng(0)
    kept = {}
    for g in table.groups:
        count = max(1, round(g.width / 3)) if g.name in names else g.width
        kept[g.name] = draw.choice(g.width, count, replace=False)
    return make_plan(table.widths, kept)


def lively(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy in double precision in which every tensor matters: random norms, and no zeros as initialised.

    Batch norms get the statistics of `images` `(N, 3, H, W)`, so that outputs have no scale of their own.
    """
    clone = copy.deepcopy(model).to("cpu").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    norms = (nn.modules.batchnorm._BatchNorm, *CHANNEL_NORMS)
    for module in clone.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, norms):
                if name == "weight":
                    parameter.uniform_(0.5, 1.5, generator=generator)
                else:
                    parameter.normal_(0, 0.5, generator=generator)
            elif isinstance(module, WEIGHTED) and name == "weight":
                least = 0.5 / parameter[0].numel() ** 0.5
                if not float(parameter.std()) > least:  # initialised near zero
                    parameter.normal_(0, 2 * least, generator=generator)
            elif not isinstance(module, WEIGHTED) and parameter.numel() > 1 and _is_constant(parameter):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif not parameter.any():
                parameter.normal_(0, 0.1, generator=generator)
    batch_norms = [m for m in clone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in batch_norms:
        norm.train()
        norm.momentum = 1.0
    if batch_norms:
        clone(images)
    return clone.eval()


def _is_constant(tensor: Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all())
