"""Zoos that experiments make for themselves, in their own directory: resumable, and only while there is time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.suite.experiment import Context
from mvp_edge.build.members import build_specialists
from mvp_edge.build.teaching import Teacher
from mvp_edge.config import BuildConfig
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import DataSource
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo, open_zoo

CHUNK = 5  # members made between two looks at the clock


def fork(zoo: Zoo, path: Path, keeps: Callable[[MemberInfo], bool]) -> Zoo:
    """Return a zoo of the same base with those members of another that `keeps` accepts; one that exists is opened."""
    if not (path / "zoo.json").exists():
        path.mkdir(parents=True, exist_ok=True)
        (path / "members").mkdir(exist_ok=True)
        shutil.copy(zoo.path / "base.safetensors.gz", path)
        for info in filter(keeps, zoo.infos()):
            places = [root / "members" / info.id for root in (zoo.path, zoo.directory)]
            shutil.copytree(next(p for p in places if p.is_dir()), path / "members" / info.id, dirs_exist_ok=True)
        shutil.copy(zoo.path / "zoo.json", path)
    return open_zoo(str(path))


def grow(
    context: Context,
    zoo: Zoo,
    source: DataSource,
    config: BuildConfig,
    seconds_each: float,
    teacher: Teacher | None = None,
) -> int:
    """Build specialists up to `config.members` while the clock allows; return how many there are.

    Args:
        context: Clock and device.
        zoo: A zoo that may be written to.
        source: Images.
        config: What is wanted.
        seconds_each: About how long a member takes.
        teacher: The base, if it teaches; several zoos of it may share what it says of each class.
    """
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    have = sum(i.kind == "specialist" for i in zoo.infos())
    while have < config.members and context.clock.allows(CHUNK * seconds_each):
        target = min(config.members, have + CHUNK)
        build_specialists(
            zoo, prunable, source, replace(config, members=target), device=context.device, progress=SilentProgress(),
            teacher=teacher,
        )  # fmt: skip
        now = sum(i.kind == "specialist" for i in zoo.infos())
        if now == have:
            break  # other processes make the rest
        have = now
    return have
