"""Running the jobs of a build: on processes of this machine, on Ray or on Slurm. The engine schedules, this waits."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from mvp_edge.build.jobs import Job, run_line
from mvp_edge.config import Launcher
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.progress import Stage

ATTEMPTS = 5  # that a job may have, if its worker is lost
POLL_S = 0.2
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
    """A job that an engine has."""

    def done(self) -> bool:
        """Return whether it ended, well or not."""
        ...

    def result(self) -> str:
        """Return what `run_line` returned; raise what the engine says of a lost worker."""
        ...

    def cancel(self) -> Any:
        """Stop it."""
        ...


Submit = Callable[[str], Handle | None]


def drive(jobs: Sequence[Job], submit: Submit, stage: Stage) -> None:
    """Run jobs, each as soon as those before it are done; a job whose worker is lost is begun anew.

    Args:
        jobs: All jobs of a build.
        submit: Gives a job, as a line, to an engine; None if that has no room now.
        stage: Advances with each job that is done.

    Raises:
        ZooError: a job failed, or lost its worker too often; the others were stopped, finished members are kept.
    """
    waiting, done = {job.job: job for job in jobs}, set[int]()
    running: dict[int, Handle] = {}
    lines = {job.job: job.to_line() for job in jobs}
    attempts: Counter[int] = Counter()
    try:
        while waiting or running:
            for number in [n for n, job in waiting.items() if done.issuperset(job.after)]:
                if (handle := submit(lines[number])) is None:
                    break
                del waiting[number]
                attempts[number] += 1
                running[number] = handle
            for number in [n for n, handle in running.items() if handle.done()]:
                if _again(number, running.pop(number), attempts[number]):
                    waiting[number] = next(job for job in jobs if job.job == number)
                else:
                    done.add(number)
                    stage.advance()
            stage.note(f"{len(running)} submitted, {len(waiting)} waiting")
            if running:
                time.sleep(POLL_S)
    finally:
        for handle in running.values():
            handle.cancel()


def _again(number: int, handle: Handle, attempts: int) -> bool:
    """Return whether an ended job has to be submitted again, because its worker was lost."""
    try:
        told = handle.result()
    except Exception as e:  # engines have exceptions of their own for lost workers
        if attempts >= ATTEMPTS:
            raise ZooError(
                f"job {number} lost its worker {attempts} times ({type(e).__name__}: {str(e).splitlines()[0][:200]}); "
                "look at the engine's logs, and run the same command again: finished members are kept"
            ) from e
        return True
    if told:
        raise ZooError(f"job {number}: {told}")
    return False


@contextmanager
def engine(launcher: Launcher, resources: Resources, logs: Path) -> Iterator[Submit]:
    """Yield what gives jobs to an engine; the engine is stopped at the end if it was started here.

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


def _answer(line: str, told: Connection) -> None:
    # A terminal sends Ctrl-C to all processes; this one is stopped by the first, and cleans up what it was writing.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    told.send(run_line(line))


@contextmanager
def _local(resources: Resources, logs: Path) -> Iterator[Submit]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = max(1, cores // resources.cpus)
    # Not a pool, which loses all jobs with one worker. The server imports torch once; its threads survive no fork.
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    context.set_forkserver_preload([__name__])
    started: list[BaseProcess] = []

    def submit(line: str) -> Handle | None:
        started[:] = [process for process in started if process.is_alive()]
        if len(started) == room:
            return None
        answer, told = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(line, told), daemon=True)
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
            ray.init(address=resources.ray_address, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        except (ConnectionError, ValueError) as e:
            raise ConfigError(f"no Ray cluster answers at {resources.ray_address} ({e}); check --ray-address") from e
    run = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0)(run_line)

    def submit(line: str) -> Handle:
        reference = run.remote(line)
        return _RayJob(reference, reference.future())

    try:
        yield submit
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _slurm(resources: Resources, logs: Path) -> Iterator[Submit]:
    submitit = _imported("submitit", "slurm")
    if shutil.which("sbatch") is None:
        raise ConfigError("there is no Slurm on this machine (no command sbatch); choose another --launcher")
    executor = submitit.AutoExecutor(folder=logs)
    gpus = {"gpus_per_node": int(resources.gpus)} if resources.gpus else {}
    executor.update_parameters(name="mvp-edge", cpus_per_task=resources.cpus, timeout_min=SLURM_MINUTES, **gpus)
    yield lambda line: executor.submit(run_line, line)


def _imported(package: str, extra: str = "") -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as e:
        extra = extra or package
        raise ConfigError(
            f"--launcher {extra} needs the package {package}; type: pip install 'mvp-edge[{extra}]'"
        ) from e
