"""Bases of small networks, for images whose colours lie between 0 and 1."""

from __future__ import annotations

from typing import Any

from mvp_edge.models.bases import Base


def small_base(arch: str, size: tuple[int, int] = (32, 32), name: str = "tiny", **more: Any) -> Base:
    """Return a base of any architecture; the mean of its colours is a half and their deviation a quarter."""
    return Base(name, arch, size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), **more)
