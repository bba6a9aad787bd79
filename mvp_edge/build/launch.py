"""Running the jobs of a build: on processes of this machine, on Ray or on Slurm. The engine schedules, this waits."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from mvp_edge.build.jobs import Job, run_lines, write_jobs
from mvp_edge.config import Launcher
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.progress import Stage

ATTEMPTS = 5  # that the making of a member may have, if its worker is lost
POLL_S = 0.2
REACHABLE_S = 20.0  # in which an existing cluster must answer
SLURM_MINUTES = 24 * 60  # that a job may take


@dataclass(frozen=True)
class Resources:
    """What one member takes.

    Attributes:
        cpus: CPU cores, and threads.
        gpus: GPUs; a part of one if several members share it.
        ray_address: An existing cluster; None starts Ray on this machine.
    """

    cpus: int = 1
    gpus: float = 0
    ray_address: str | None = None


class Handle(Protocol):
    """What an engine was given."""

    def done(self) -> bool:
        """Return whether it ended, well or not."""
        ...

    def result(self) -> str:
        """Return what `run_lines` returned; raise what the engine says of a lost worker."""
        ...

    def cancel(self) -> Any:
        """Stop it."""
        ...


Submit = Callable[[str], Handle | None]
Group = tuple[Job, ...]


def drive(jobs: Sequence[Job], submit: Submit, stage: Stage, at_once: int = 1) -> None:
    """Run jobs, each as soon as those before it are done; those whose worker is lost are begun anew.

    Args:
        jobs: All jobs of a build.
        submit: Gives jobs, as lines, to a worker of an engine; None if that has no room now.
        stage: Advances with each job that is done.
        at_once: Most jobs for one worker, which does them one after the other: it starts, and reads what they share,
            only once. Those that were done when it is lost are found to be done.

    Raises:
        ZooError: a job failed, or lost its worker too often; the others were stopped, finished members are kept.
    """
    waiting, done = list(_groups(jobs, at_once)), set[int]()
    running: dict[Group, Handle] = {}
    attempts: Counter[Group] = Counter()
    try:
        while waiting or running:
            for group in [g for g in waiting if done.issuperset(g[0].after)]:
                if (handle := submit(write_jobs(group))) is None:
                    break
                waiting.remove(group)
                attempts[group] += 1
                running[group] = handle
            for group in [g for g, handle in running.items() if handle.done()]:
                if _again(group, running.pop(group), attempts[group]):
                    waiting.append(group)
                else:
                    done.update(job.job for job in group)
                    stage.advance(len(group))
            stage.note(f"{sum(map(len, running))} submitted, {sum(map(len, waiting))} waiting")
            if running:
                time.sleep(POLL_S)
    finally:
        for handle in running.values():
            handle.cancel()


def _groups(jobs: Sequence[Job], at_once: int) -> Iterator[Group]:
    """Yield jobs that one worker can do: of one kind, and after the same others."""
    for _, alike in groupby(jobs, lambda job: (job.kind, job.after)):
        several = tuple(alike)
        for first in range(0, len(several), at_once):
            yield several[first : first + at_once]


def _again(group: Group, handle: Handle, attempts: int) -> bool:
    """Return whether jobs that ended have to be submitted again, because their worker was lost."""
    first, last = group[0].job, group[-1].job
    name = f"job {first}" if first == last else f"jobs {first} to {last}"
    try:
        problem = handle.result()
    except Exception as e:  # engines have exceptions of their own for lost workers
        reason = (str(e).splitlines() or [""])[0][:200]
        if attempts >= ATTEMPTS * len(group):
            raise ZooError(
                f"{name} lost the worker {attempts} times ({type(e).__name__}: {reason}); look at the engine's logs, "
                "and run the same command again: finished members are kept"
            ) from e
        return True
    if problem:
        raise ZooError(f"{name}: {problem}")
    return False


@contextmanager
def engine(launcher: Launcher, resources: Resources, logs: Path) -> Iterator[Submit]:
    """Yield what gives jobs, as lines, to an engine; the engine is stopped at the end if it was started here.

    Args:
        launcher: Which engine.
        resources: What one job takes.
        logs: Directory for what an engine writes.

    Raises:
        ConfigError: the engine is not installed, or there is none.
    """
    with {"local": _local, "ray": _ray, "slurm": _slurm}[launcher](resources, logs) as submit:
        yield submit


@dataclass(frozen=True)
class _Process:
    process: BaseProcess
    answer: Connection

    def done(self) -> bool:
        return self.answer.poll() or not self.process.is_alive()

    def result(self) -> str:
        try:
            return self.answer.recv()
        except EOFError as e:
            self.process.join()
            raise RuntimeError(f"exit code {self.process.exitcode}") from e

    def cancel(self) -> None:
        self.process.terminate()
        self.process.join()


def _answer(lines: str, told: Connection) -> None:
    # A terminal sends Ctrl-C to all processes; this one is stopped by the first, and cleans up what it was writing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    told.send(run_lines(lines))


@contextmanager
def _local(resources: Resources, logs: Path) -> Iterator[Submit]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = max(1, cores // resources.cpus)
    # Not a pool, which loses all jobs with one worker. The server imports torch once; its threads survive no fork.
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    context.set_forkserver_preload([__name__])
    started: list[BaseProcess] = []

    def submit(lines: str) -> Handle | None:
        started[:] = [process for process in started if process.is_alive()]
        if len(started) == room:
            return None
        answer, told = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(lines, told), daemon=True)
        process.start()
        told.close()
        started.append(process)
        return _Process(process, answer)

    yield submit


@dataclass(frozen=True)
class _RayJob:
    reference: Any
    future: Any

    def done(self) -> bool:
        return self.future.done()

    def result(self) -> str:
        return self.future.result()

    def cancel(self) -> None:
        import ray

        ray.cancel(self.reference, force=True)


@contextmanager
def _ray(resources: Resources, logs: Path) -> Iterator[Submit]:
    ray = _imported("ray")
    started = not ray.is_initialized()
    if started:
        try:
            _check_reachable(resources.ray_address or "")
            ray.init(address=resources.ray_address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        except (OSError, OverflowError, ValueError) as e:
            raise ConfigError(f"no Ray cluster answers at {resources.ray_address} ({e}); check --ray-address") from e
    run = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(run_lines)

    def submit(lines: str) -> Handle:
        reference = run.remote(lines)
        return _RayJob(reference, reference.future())

    try:
        if started and resources.ray_address is None and "RAY_ADDRESS" not in os.environ:  # a cluster may grow
            _check_room(ray.cluster_resources(), resources)
        yield submit
    finally:
        if started:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Connect to `HOST:PORT` once, because Ray tries for more than ten minutes.

    Raises:
        OSError: nothing answers.
        OverflowError: there is no such port.
    """
    if found := re.fullmatch(r"([^/]+):(\d+)", address):
        socket.create_connection((found[1].strip("[]"), int(found[2])), REACHABLE_S).close()


def _check_room(machine: Mapping[str, float], resources: Resources) -> None:
    """Refuse jobs that would wait for ever, because this machine alone has too little for one.

    Raises:
        ConfigError: it has.
    """
    cpus, gpus = machine.get("CPU", 0), machine.get("GPU", 0)
    if resources.cpus > cpus or resources.gpus > gpus:
        raise ConfigError(
            f"a job takes {resources.cpus} CPUs and {resources.gpus:g} GPUs, but Ray found {cpus:g} and {gpus:g} on "
            "this machine; lower --cpus-per-member or --gpus-per-member, or name a cluster with --ray-address"
        )


@contextmanager
def _slurm(resources: Resources, logs: Path) -> Iterator[Submit]:
    submitit = _imported("submitit", "slurm")
    if shutil.which("sbatch") is None:
        raise ConfigError("there is no Slurm on this machine (no command sbatch); choose another --launcher")
    executor = submitit.AutoExecutor(folder=logs)
    more: dict[str, Any] = {"gpus_per_node": int(resources.gpus)} if resources.gpus else {}
    more["slurm_srun_args"] = [f"--cpus-per-task={resources.cpus}"]  # since Slurm 22.05 srun does not take sbatch's
    executor.update_parameters(name="mvp-edge", cpus_per_task=resources.cpus, timeout_min=SLURM_MINUTES, **more)

    def submit(lines: str) -> Handle:
        try:
            return executor.submit(run_lines, lines)
        except (OSError, RuntimeError) as e:
            reason = (str(e).splitlines() or ["no reason given"])[-1]
            raise ConfigError(
                f"Slurm takes no job ({reason}); set SBATCH_PARTITION, SBATCH_ACCOUNT and what else sbatch needs here"
            ) from e

    yield submit


def _imported(package: str, extra: str = "") -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as e:
        extra = extra or package
        raise ConfigError(
            f"--launcher {extra} needs the package {package}; type: pip install 'mvp-edge[{extra}]'"
        ) from e
