"""Do engines make the same members as one process, whatever is killed, and what do they cost?

    python -m benchmarks launchers --data DIR [--launchers local,ray,slurm,slurm:4] [--members 20] [--kills 20]

Specialists of a zoo with few training steps, one thread each: in one process and then on each engine undisturbed, in
several rounds, then on each engine while workers are killed at random. `slurm:4` makes four members in a job. Slurm is
played by submitit's local executor. The cost is processor time, of this process and all below it: the machine may be
busy with other things. RAY_worker_niceness=0 lets Ray's workers take part in a busy machine.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest import mock

from benchmarks.command import Script
from mvp_edge.build.jobs import Job, plan_jobs
from mvp_edge.build.launch import Handle, Resources, drive, engine
from mvp_edge.build.members import build_specialists
from mvp_edge.config import BuildConfig, FitOverrides, Launcher
from mvp_edge.core.device import Machine
from mvp_edge.core.progress import SilentProgress
from mvp_edge.models.bases import BASE_FILE
from mvp_edge.zoo.store import Zoo, open_zoo

AT_ONCE = 2  # jobs of the stand-in for Slurm, which has no limit of its own
KILLS_A_BUILD = 10
ONE_THREAD = Machine("cpu", 1, "off")
SILENT = SilentProgress()
WORKERS: dict[Launcher, bytes] = {"local": b"forkserver", "ray": b"ray::run_lines", "slurm": b"submitit.core._submit"}
"""A word in the command of the processes that run jobs."""


def main(argv: Sequence[str]) -> None:
    """Build in each way and append a record for each build."""
    script = Script("launchers", __doc__, "data", "zoo", "seed")
    script.add("--launchers", default="local,ray,slurm,slurm:4", help="ENGINE or ENGINE:MEMBERS_PER_JOB")
    script.add("--members", type=int, default=20)
    script.add("--kills", type=int, default=20, help="on each engine, in all its builds")
    script.add("--rounds", type=int, default=3, help="undisturbed builds in each way, in turns; 0 = for kills only")
    script.add("--iterations", type=int, default=3, help="training steps of a member")
    args = script.parse(argv)
    ONE_THREAD.take()
    config = BuildConfig(args.members, fit=FitOverrides(iterations=args.iterations))
    about = {
        "zoo": script.zoo.name, "base_sha256": script.zoo.base.sha256, "data": script.source.name, "threads": 1,
        "members": args.members, "ways": config.ways, "iterations": args.iterations,
    }  # fmt: skip
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as scratch:
        first, gap_s, ways = {}, 0.0, args.launchers.split(",")

        def build(way: str, kills: int, number: int | None) -> int:
            """Make the members on an engine, record what came out, and return how many workers were killed."""
            launcher, _, at_once = way.partition(":")
            zoo = without_specialists(script.zoo, Path(tempfile.mkdtemp(dir=scratch)))
            jobs = plan_jobs(zoo.path, str(Path(args.data).resolve()), script.source, [], config, ONE_THREAD)
            logs = zoo.path / ".jobs"
            result = on_engine(cast(Launcher, launcher), jobs, logs, kills, gap_s, draw, int(at_once or 1))
            result["same"] = content(zoo) == first
            build_config = {"launcher": launcher, "members_per_job": int(at_once or 1), "round": number, "kills": kills}
            script.record(about | build_config, result)
            return result["killed"]

        for number in range(args.rounds) or [None]:  # what all others must equal is made in any case
            alone = without_specialists(script.zoo, Path(tempfile.mkdtemp(dir=scratch)))
            with spent() as cost:
                build_specialists(alone, script.prunable, script.source, config, device=script.device, progress=SILENT)
            first = first or content(alone)
            gap_s = gap_s or 2 * cost["wall_s"] / AT_ONCE / KILLS_A_BUILD
            build_config = {"launcher": "none", "members_per_job": args.members, "round": number, "kills": 0}
            script.record(about | build_config, {**cost, "same": content(alone) == first})
            for way in ways if args.rounds else []:
                build(way, 0, number)
        for way in ways:
            left = args.kills
            while left > 0:
                left -= build(way, min(KILLS_A_BUILD, left), None)


def without_specialists(zoo: Zoo, place: Path) -> Zoo:
    """Return a copy of a zoo that has its base and generalists only."""
    (place / "members").mkdir(parents=True)
    for name in ("zoo.json", BASE_FILE):
        shutil.copyfile(zoo.path / name, place / name)
    for info in (i for i in zoo.infos() if i.kind == "generalist"):
        shutil.copytree(zoo.member_directory(info.id), place / "members" / info.id)
    return open_zoo(str(place))


def content(zoo: Zoo) -> dict[str, tuple[str, str]]:
    """Return what makes members the same: their ids, and checksums of their files."""
    return {i.id: (i.weights_sha256, i.outputs_sha256) for i in zoo.infos()}


def on_engine(
    launcher: Launcher, jobs: Sequence[Job], logs: Path, kills: int, gap_s: float, draw: random.Random, at_once: int = 1
) -> dict[str, Any]:
    """Run jobs on an engine and return what was killed, done again and spent.

    Args:
        launcher: Which engine.
        jobs: All jobs of a build.
        logs: Directory for what the engine writes.
        kills: Workers to kill, as far as the build lasts long enough.
        gap_s: The longest time between two kills.
        draw: Of the moments and workers.
        at_once: Jobs for one worker.
    """
    begun: list[str] = []
    with contextlib.ExitStack() as held, spent() as cost:
        if launcher == "slurm":
            held.enter_context(slurm_on_this_machine())
        submit = held.enter_context(engine(launcher, Resources(cpus=1), logs))
        killed = held.enter_context(killing(WORKERS[launcher], kills, gap_s, draw))
        running: list[Handle] = []

        def counted(lines: str) -> Handle | None:
            running[:] = [handle for handle in running if not handle.done()]
            if launcher == "slurm" and len(running) == AT_ONCE:
                return None
            if (handle := submit(lines)) is not None:
                running.append(handle)
                begun.append(lines)
            return handle

        drive(jobs, counted, SILENT, at_once)
    return {"killed": len(killed), "repeated": len(begun) - len(set(begun)), **cost}


@contextlib.contextmanager
def killing(word: bytes, kills: int, gap_s: float, draw: random.Random) -> Iterator[list[int]]:
    """Kill workers while the block runs, each in the middle of what it does; yield those that were killed.

    Args:
        word: A word in the command of a worker.
        kills: How many.
        gap_s: The longest time between two.
        draw: Of the moments and workers.
    """
    killed: list[int] = []
    stop = threading.Event()

    def kill() -> None:
        while len(killed) < kills and not stop.wait(draw.uniform(0, gap_s)):
            if processes := workers(word):
                process = draw.choice(processes)
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        stop.set()
        killer.join()


@contextlib.contextmanager
def slurm_on_this_machine() -> Iterator[None]:
    """Let submitit play Slurm with processes of this machine."""
    import submitit

    with tempfile.TemporaryDirectory() as commands:
        sbatch = Path(commands) / "sbatch"
        sbatch.write_text("#!/bin/sh\n")
        sbatch.chmod(0o755)
        local = partial(submitit.AutoExecutor, cluster="local")
        path = {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}
        with mock.patch.dict(os.environ, path), mock.patch.object(submitit, "AutoExecutor", local):
            yield


@contextlib.contextmanager
def spent() -> Iterator[dict[str, float]]:
    """Yield what is, at the end of the block, the processor and wall-clock seconds that it took."""
    cost: dict[str, float] = {}
    wall, processor = time.perf_counter(), processor_s()
    yield cost
    cost["wall_s"] = round(time.perf_counter() - wall, 1)
    cost["processor_s"] = round(processor_s() - processor, 1)


def processor_s() -> float:
    """Return the processor seconds of this process and all below it, the ended ones included."""
    # user, system, and both of children that were waited for
    ticks = sum(sum(map(int, fields[11:15])) for fields in below().values())
    return ticks / os.sysconf("SC_CLK_TCK")


def workers(word: bytes) -> list[int]:
    """Return processes below this one that run jobs, not those that start them."""
    found = []
    for process, fields in below().items():
        with contextlib.suppress(OSError):
            if os.getpid() not in (process, int(fields[1])) and word in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


def below() -> dict[int, list[str]]:
    """Return this process and all below it, each with its line in /proc from the state on."""
    every: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            every[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
    found = {os.getpid()}
    while more := {p for p, fields in every.items() if int(fields[1]) in found} - found:
        found |= more
    return {process: every[process] for process in found if process in every}
