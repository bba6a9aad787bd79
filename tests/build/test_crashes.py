"""A zoo outlives what happens to its writers: kills at any moment, each other, and a full disk."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mvp_edge.build.members import build_specialists
from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule
from mvp_edge.core.errors import ZooError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import load_base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import MemberInfo
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo
from tests.bases import small_base

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.build.test_crashes"])  # a process then starts in no time
SETTINGS = BuildConfig(
    members=4, ways=2, schedule=PruneSchedule(keep=0.5, channel_multiple=4), fit=FitConfig(iterations=2, batch_size=4)
)


@pytest.fixture
def empty(tiny_base: Path, tmp_path: Path) -> Zoo:
    return create_zoo(tmp_path / "zoo", *load_base(str(tiny_base)))


def build(zoo: Path, images: Path, seed: int, told: Any = None) -> list[str]:
    """Make four members, each in a fraction of a second; put their ids into a queue."""
    torch.set_num_threads(1)
    opened, data = open_zoo(str(zoo)), open_source(str(images))
    prunable = PrunableModel.of(opened.base, opened.load_base())
    if told is not None:
        told.put("ready")
    settings, cpu = replace(SETTINGS, seed=seed), torch.device("cpu")
    made = build_specialists(opened, prunable, data, settings, device=cpu, progress=SilentProgress())
    if told is not None:
        told.put([i.id for i in made])
    return [i.id for i in made]


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_a_kill_costs_no_more_than_the_member_in_progress(kills: int, empty: Zoo, images: Path) -> None:
    draw, killed, seed = random.Random(kills), 0, 0
    while killed < kills:
        before, told = set(empty.ids()), FORKS.Queue()
        process = FORKS.Process(target=build, args=(empty.path, images, seed, told))
        process.start()
        assert told.get(timeout=120) == "ready"
        process.join(draw.uniform(0, 1.5))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        seed += process.exitcode == 0  # all of that seed are there
        assert open_zoo(str(empty.path)).verify() == []
        assert before <= set(empty.ids())
    build(empty.path, images, seed)
    zoo = open_zoo(str(empty.path))
    assert zoo.verify() == []
    assert len(zoo.ids()) == (seed + 1) * SETTINGS.members
    left = list((zoo.path / "members").glob(".*"))
    for path in left:
        os.utime(path, (0, 0))
    zoo.remove_leftovers()
    assert not list((zoo.path / "members").glob(".*"))


def test_two_writers_share_the_work(empty: Zoo, images: Path) -> None:
    told = FORKS.Queue()
    writers = [FORKS.Process(target=build, args=(empty.path, images, 0, told)) for _ in range(2)]
    for writer in writers:
        writer.start()
    heard = [told.get(timeout=120) for _ in range(4)]
    for writer in writers:
        writer.join()
    made = [member for each in heard if each != "ready" for member in each]
    build(empty.path, images, 0)  # what both left to each other
    assert len(made) == len(set(made))
    assert len(empty.ids()) == SETTINGS.members and set(made) <= set(empty.ids())
    assert open_zoo(str(empty.path)).verify() == []


def create(path: Path, seed: int, start: Any, told: Any) -> None:
    """Make a zoo of a base of its own, at the same moment as another process."""
    torch.manual_seed(seed)
    base, model = small_base("test_resnet", classes=("a", "b", "c")), new_model("test_resnet", 3)
    start.wait(120)
    try:
        told.put(create_zoo(path, base, model).base.sha256)
    except ZooError:
        told.put(None)


def test_of_two_creators_one_makes_the_zoo(tmp_path: Path) -> None:
    for number in range(3):
        start, told, path = FORKS.Barrier(2), FORKS.Queue(), tmp_path / str(number)
        creators = [FORKS.Process(target=create, args=(path, seed, start, told)) for seed in (0, 1)]
        for creator in creators:
            creator.start()
        found = [told.get(timeout=120) for _ in creators]
        for creator in creators:
            creator.join()
        zoo = open_zoo(str(path))
        assert zoo.verify() == []
        assert sorted(sha is None for sha in found) == [False, True]
        assert zoo.base.sha256 in found


@contextlib.contextmanager
def full_disk(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoo]:
    """The zoo on a disk that is soon full: a small file system if we may make one, else a pretended one."""
    size = sum(f.stat().st_size for f in zoo.path.rglob("*") if f.is_file())
    disk = zoo.path.parent / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size // 1024 + 120}k", "tmpfs", str(disk)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:
        write = Path.write_bytes

        def refuse(path: Path, data: bytes) -> int:
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(Path, "write_bytes", refuse)
    try:
        yield open_zoo(str(shutil.copytree(zoo.path, disk / "zoo")))
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


def add_many(zoo: Zoo, member: MemberInfo, state: dict[str, torch.Tensor]) -> None:
    for number in range(100):
        zoo.add(replace(member, id=f"{number}"), state)


def test_a_full_disk_costs_no_more_than_the_member_in_progress(
    empty: Zoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, *_) = build(empty.path, images, 0)
    member = empty.info(first)
    state = empty.load(member).state
    with full_disk(empty, monkeypatch) as zoo:
        before = zoo.ids()
        with pytest.raises(ZooError, match="cannot be written"):
            add_many(zoo, member, state)
        assert set(before) <= set(zoo.ids())
        assert zoo.verify() == []
        assert not list((zoo.path / "members").glob(".*"))
