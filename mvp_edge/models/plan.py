"""Which units of each coupled group a pruned model keeps: pure values, no tensors.

A *unit* is what is kept or dropped as a whole (a filter, a hidden node, a head, or a group of a grouped convolution);
a *group* is a set of layers whose units must agree (the paper's layer `l`, except that residual connections couple
several layers into one group).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mvp_edge.core.errors import PlanError

FORMAT = 1


@dataclass(frozen=True)
class GroupKeep:
    """The kept units of one group: sorted indices into the base model's `width` units."""

    name: str
    width: int
    kept: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.kept:
            raise PlanError(f"group {self.name}: no unit is kept; keep at least one of {self.width}")
        if list(self.kept) != sorted(set(self.kept)):
            raise PlanError(f"group {self.name}: kept units must be sorted and unique")
        if self.kept[0] < 0 or self.kept[-1] >= self.width:
            raise PlanError(f"group {self.name}: kept units must lie in 0..{self.width - 1}")


@dataclass(frozen=True)
class KeepPlan:
    """The paper's Omega: what is kept in every group."""

    groups: tuple[GroupKeep, ...]

    @property
    def achieved(self) -> float:
        """Units kept / units of the base model, over all groups."""
        return sum(len(g.kept) for g in self.groups) / sum(g.width for g in self.groups)

    @property
    def is_full(self) -> bool:
        """Whether every unit is kept."""
        return self.counts == self.widths

    @property
    def counts(self) -> dict[str, int]:
        """Number of kept units by group name."""
        return {g.name: len(g.kept) for g in self.groups}

    @property
    def widths(self) -> dict[str, int]:
        """Number of the base model's units by group name."""
        return {g.name: g.width for g in self.groups}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        """Kept units of the group called `name`."""
        for group in self.groups:
            if group.name == name:
                return group.kept
        raise KeyError(name)

    def then(self, inner: KeepPlan) -> KeepPlan:
        """Return what is kept of the base if the network that this plan leaves is cut again.

        Raises:
            PlanError: `inner` is not a plan for that network.
        """
        if inner.widths != self.counts:
            raise PlanError("the second plan is for another network than the first one leaves")
        return make_plan(self.widths, {g.name: [self[g.name][i] for i in g.kept] for g in inner.groups})

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready value; `from_json` is its inverse."""
        return {
            "format": FORMAT,
            "achieved_keep": round(self.achieved, 6),
            "groups": [
                {"name": g.name, "width": g.width, "count": len(g.kept), "kept": list(g.kept)} for g in self.groups
            ],
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> KeepPlan:
        """Read what `to_json` wrote.

        Raises:
            PlanError: the value is not a plan of this format.
        """
        try:
            if value["format"] != FORMAT:
                raise PlanError(
                    f"plan format {value['format']!r} is unknown; this version reads format {FORMAT}; make the plan "
                    "again with: mvp-edge prune"
                )
            return KeepPlan(tuple(GroupKeep(g["name"], int(g["width"]), tuple(g["kept"])) for g in value["groups"]))
        except (KeyError, TypeError, ValueError) as e:
            raise PlanError(f"this is not a plan ({type(e).__name__}: {e}); make one with: mvp-edge prune") from e


def full_plan(widths: Mapping[str, int]) -> KeepPlan:
    """Return the plan that keeps everything."""
    return KeepPlan(tuple(GroupKeep(name, width, tuple(range(width))) for name, width in widths.items()))


def make_plan(widths: Mapping[str, int], kept: Mapping[str, Iterable[int]]) -> KeepPlan:
    """Return the plan that keeps the units `kept[name]` of each group, in any order."""
    return KeepPlan(tuple(GroupKeep(n, w, tuple(sorted(int(i) for i in kept[n]))) for n, w in widths.items()))


def keep_count(width: int, keep: float, channel_multiple: int = 1, unit_channels: int = 1) -> int:
    """Return how many of `width` units to keep: the multiple nearest to `keep * width`.

    Processors compute several channels at once, so multiples of 8 run up to twice as fast as the ratio's own
    counts. At least one multiple is kept, and never more than `width`.

    Args:
        width: Units of the group in the base model.
        keep: Fraction to keep, in (0, 1].
        channel_multiple: The channels of the count are a multiple of this; 1 takes the ratio's own count.
        unit_channels: Channels one unit stands for (grouped convolutions: the width of a group; attention: that of a
            head, so that any number of heads of 32 or 64 channels is a multiple of 8).

    Example:
        >>> [keep_count(w, 0.1, 8) for w in (64, 128, 256, 512)]
        [8, 16, 24, 48]
        >>> [keep_count(w, 0.1) for w in (64, 128, 256, 512)]
        [6, 13, 26, 51]
    """
    if not 0 < keep <= 1:
        raise PlanError(f"keep is {keep}; it must be in (0, 1]")
    if channel_multiple < 1:
        raise PlanError(f"channel multiple is {channel_multiple}; it must be at least 1")
    units = channel_multiple // math.gcd(channel_multiple, unit_channels)
    return min(width, units * max(1, math.floor(keep * width / units + 0.5)))
