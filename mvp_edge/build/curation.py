"""Zoos made of zoos: two of one base merged, or the members of one that ranking chooses most."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvp_edge.config import VoteConfig
from mvp_edge.core.errors import ZooError
from mvp_edge.core.output import check_writable, result_directory
from mvp_edge.core.progress import Progress
from mvp_edge.core.streams import rng
from mvp_edge.models.bases import BASE_FILE
from mvp_edge.names.ranking import ClassLists, rank
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.zoo.location import read_zoo_file
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo, open_zoo

LISTS = 500  # random class lists that members are ranked for


@dataclass(frozen=True)
class Trimmed:
    """A zoo with some of the members of another.

    Attributes:
        zoo: It.
        dropped: Members that it lacks.
        similarity: Mean WordNet similarity, in [0, 1], of the neighbours that ranking chooses, before and after.
    """

    zoo: Zoo
    dropped: tuple[str, ...]
    similarity: tuple[float, float]


def merge(zoos: Sequence[Zoo], out: Path, progress: Progress) -> Zoo:
    """Write a zoo with the members of several; of members that two have, those of the first.

    Args:
        zoos: Of one base.
        out: Directory to make.
        progress: Progress.

    Raises:
        ConfigError: it exists or cannot be written.
        ZooError: their bases differ, a zoo is damaged, or has ready-made bodies.
    """
    first = zoos[0]
    for zoo in zoos[1:]:
        if zoo.base.sha256 != first.base.sha256:
            raise ZooError(
                f"zoo {zoo.name} is of {zoo.base.name} ({zoo.base.sha256[:12]}), zoo {first.name} of "
                f"{first.base.name} ({first.base.sha256[:12]}); only zoos of one base can be merged"
            )
    _require_members(zoos)
    found: dict[str, Zoo] = {}
    for zoo in zoos:
        found |= {name: zoo for name in zoo.ids() if name not in found}
    return _write(zoos, found, out, progress)


def trim(zoo: Zoo, members: int, out: Path, seed: int, progress: Progress) -> Trimmed:
    """Write a zoo with the generalists of another, and those of its specialists that ranking chooses most.

    For random class lists, of classes that the specialists know and as long as theirs, the nearest members by names are
    those that would vote. The specialist that is least often among them is dropped, then others take its place: so one
    after the other goes until `members` are left.

    Args:
        zoo: A zoo.
        members: How many to keep.
        out: Directory to make.
        seed: Of the class lists.
        progress: Progress.

    Raises:
        ConfigError: the directory exists or cannot be written.
        ZooError: the zoo has no more members than these, more generalists or no specialists; it is damaged, or has
            ready-made bodies.
    """
    _require_members([zoo])
    infos = zoo.infos()
    kept = [i.id for i in infos if i.kind == "generalist"]
    specialists = [i for i in infos if i.kind == "specialist"]
    if not specialists:
        raise ZooError(f"zoo {zoo.name} has {len(infos)} members and no specialist among them, so none can be dropped")
    if not len(kept) <= members < len(infos):
        raise ZooError(
            f"--members is {members}; zoo {zoo.name} has {len(infos)} members, {len(kept)} of them generalists, which "
            f"stay: use {len(kept)} to {len(infos) - 1}"
        )
    with progress.stage("Ranking", LISTS) as stage:
        rows, tasks = [], ClassLists.of(i.task for i in specialists)
        for task in class_lists(specialists, LISTS, seed):
            rows.append(rank(task, tasks))
            stage.advance()
    similarity = np.array(rows)
    chosen = most_chosen(similarity, members - len(kept), VoteConfig().neighbours)
    kept += [specialists[i].id for i in chosen]
    written = _write([zoo], dict.fromkeys(kept, zoo), out, progress)
    dropped = tuple(sorted({i.id for i in infos} - set(kept)))
    before, after = (_nearest(part, VoteConfig().neighbours) for part in (similarity, similarity[:, chosen]))
    return Trimmed(written, dropped, (before, after))


def class_lists(specialists: Sequence[MemberInfo], count: int, seed: int) -> list[Task]:
    """Return random lists of classes that specialists know, each as long as that of one of them."""
    known = {c.name: c for i in specialists for c in i.task.classes}
    draw = rng(seed, "trim")
    lists = []
    for _ in range(count):
        length = len(specialists[int(draw.integers(len(specialists)))].task.classes)
        names = draw.choice(sorted(known), min(length, len(known)), replace=False)
        lists.append(Task(tuple(TaskClass(str(n), known[str(n)].synset) for n in names)))
    return lists


def most_chosen(similarity: np.ndarray, count: int, neighbours: int) -> list[int]:
    """Return the columns that are left when those that are least often among the nearest go, one after the other.

    Args:
        similarity: `(lists, members)`.
        count: How many are left.
        neighbours: How many are nearest.
    """
    left = np.arange(similarity.shape[1])
    while len(left) > count:
        # The first of equal members is nearer, as in ranking by id.
        nearest = np.argsort(-similarity[:, left], axis=1, kind="stable")[:, :neighbours]
        votes = np.bincount(nearest.ravel(), minlength=len(left))
        least = len(left) - 1 - int(votes[::-1].argmin())  # of equal ones the last
        left = np.delete(left, least)
    return left.tolist()


def _nearest(similarity: np.ndarray, neighbours: int) -> float:
    if not similarity.shape[1]:
        return 0.0
    return float(-np.sort(-similarity, axis=1)[:, :neighbours].mean())


def _require_members(zoos: Sequence[Zoo]) -> None:
    for zoo in zoos:
        if "bodies" in read_zoo_file(str(zoo.path))[1]:
            raise ZooError(f"zoo {zoo.name} has ready-made bodies, not only members; this is for zoos of members")


def _write(zoos: Sequence[Zoo], members: Mapping[str, Zoo], out: Path, progress: Progress) -> Zoo:
    """Write a zoo with the base of the first of some zoos and some of their members, all or nothing."""
    first = zoos[0]
    with progress.stage("Checking", len(zoos)) as stage:
        for zoo in zoos:  # which fetches what is elsewhere
            if problems := zoo.verify():
                raise ZooError(f"zoo {zoo.name} is damaged: {problems[0]}")
            stage.advance()

    def check() -> None:
        if out.exists():
            raise ZooError(f"{out} exists; choose a new directory with --out")
        check_writable(out)

    check()
    with result_directory(out, check) as partial:
        value = read_zoo_file(str(first.path))[1] | {"name": out.resolve().name}
        (partial / "zoo.json").write_text(json.dumps(value, indent=1), encoding="utf-8")
        shutil.copyfile(first.path / BASE_FILE, partial / BASE_FILE)
        for name, zoo in members.items():
            shutil.copytree(zoo.member_directory(name), partial / "members" / name)
    return open_zoo(str(out))
