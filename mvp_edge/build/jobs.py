"""The members of a build as jobs: each one independent, restartable, and the same wherever it runs.

A job that was done before finds its member and ends; one that was killed is begun anew. Generalists are pruned from the
next larger one, specialists from a generalist, so that their jobs come after those of the generalists.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mvp_edge.build.members import build_generalists, build_specialists, specialist_tasks
from mvp_edge.config import BuildConfig, FitOverrides
from mvp_edge.core.device import Machine
from mvp_edge.core.errors import ConfigError, MvpEdgeError
from mvp_edge.core.progress import Progress, SilentProgress
from mvp_edge.core.untrusted import MAX_JSON, read_bytes, read_json, typed
from mvp_edge.data import DataSource, open_source
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import MemberInfo, MemberKind
from mvp_edge.zoo.store import open_zoo


@dataclass(frozen=True)
class Job:
    """The making of one member.

    Attributes:
        job: Its number in the build.
        kind: What is made.
        keep: Fraction of units of a generalist; specialists have it in their settings.
        task: Number of a specialist's class list among those of the build.
        classes: These classes, for people.
        after: Numbers of the jobs that must be done before.
        zoo: Directory of the zoo, the same for all who make members.
        base_sha256: Its base model.
        data: Images, as `--data`.
        config: Settings of the build; its trainings are overrides.
        machine: What it computes with.
    """

    job: int
    kind: MemberKind
    keep: float
    task: int | None
    classes: tuple[str, ...]
    after: tuple[int, ...]
    zoo: str
    base_sha256: str
    data: str
    config: BuildConfig
    machine: Machine

    def to_line(self) -> str:
        """Return it as a line of JSON; `from_line` is the inverse."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_line(line: str) -> Job:
        """Read what `to_line` wrote.

        Raises:
            ConfigError: the line describes no job.
        """
        try:
            value = read_json(line.encode())
            config, fits = dict(value["config"]), dict.fromkeys(("fit", "generalist_fit"), FitOverrides)
            kinds: dict[str, Any] = get_type_hints(BuildConfig) | fits
            config = BuildConfig(**config | {k: typed(config[k], kind) for k, kind in kinds.items()})
            parts = {k: typed(value[k], kind) for k, kind in get_type_hints(Job).items() if k != "config"}
            job = Job(**value | parts | {"config": config})
            if job.kind == "specialist" and job.task not in range(config.members):
                raise ValueError(f"task is {job.task}; the build has {config.members}")
            return job
        except (KeyError, TypeError, ValueError) as e:
            reason = f"it has no {e}" if isinstance(e, KeyError) else e
            raise ConfigError(f"this is not a job ({reason}); write the jobs again with: mvp-edge zoo plan") from e


def plan_jobs(
    zoo: Path, data: str, source: DataSource, keeps: Sequence[float], config: BuildConfig, machine: Machine
) -> list[Job]:
    """Return the jobs of a build, those that others wait for first.

    Args:
        zoo: Directory of a zoo that exists.
        data: Images, as every job opens them: an absolute path or the name of a data set.
        source: The same, opened.
        keeps: Of the generalists.
        config: Settings of the build.
        machine: What each job computes with.

    Raises:
        ConfigError: the classes make fewer tasks than there shall be members.
        ZooError: the zoo is damaged.
    """
    opened = open_zoo(str(zoo))
    prunable = PrunableModel.of(opened.base, opened.load_base())
    jobs: list[Job] = []

    def add(kind: MemberKind, keep: float, task: int | None, classes: Sequence[str], after: Sequence[int]) -> None:
        after = after if config.parent == "generalist" else ()
        jobs.append(
            Job(
                len(jobs), kind, keep, task, tuple(classes), tuple(after), str(zoo.resolve()), opened.base.sha256, data,
                config, machine,
            )
        )  # fmt: skip

    for keep in sorted(set(keeps), reverse=True):
        add("generalist", keep, None, (), [j.job for j in jobs])
    larger = [j.job for j in jobs]
    for number, task in enumerate(specialist_tasks(prunable, source, config)):
        add("specialist", config.schedule.keep, number, task.names, larger)
    return jobs


def write_jobs(jobs: Sequence[Job]) -> str:
    """Return jobs as JSON Lines."""
    return "".join(f"{job.to_line()}\n" for job in jobs)


def read_job(file: Path, number: int) -> Job:
    """Return a job of a file that `write_jobs` filled.

    Raises:
        ConfigError: the file cannot be read, or has no such job.
    """
    try:
        lines = read_bytes(file, MAX_JSON).decode().splitlines()
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise ConfigError(f"{file} cannot be read ({reason}); write it with: mvp-edge zoo plan") from e
    if not 0 <= number < len(lines):
        raise ConfigError(f"{file} has {len(lines)} jobs, numbered from 0, and no job {number}")
    return Job.from_line(lines[number])


def make(jobs: Sequence[Job], progress: Progress) -> list[MemberInfo]:
    """Do jobs one after the other; return the members that are new.

    Args:
        jobs: Of one build, of one kind and after the same others, so that what they read is read once.
        progress: Progress.

    Raises:
        ConfigError: the machine has no such device or does not see the zoo, or a job that this one comes after was not
            done.
        DataError: images cannot be read.
        PlanError: the base model cannot be sliced faithfully.
        ZooError: the zoo is damaged or cannot be written.
    """
    job = jobs[0]
    if not (Path(job.zoo) / "zoo.json").exists():
        raise ConfigError(
            f"there is no zoo in {job.zoo} on {platform.node()}; all machines must see the zoo and the images under "
            "the same paths, on shared storage"
        )
    device, source, zoo = job.machine.take(), open_source(job.data), open_zoo(job.zoo)
    if zoo.base.sha256 != job.base_sha256:
        raise ConfigError(
            f"job {job.job} was planned for another base ({job.base_sha256[:12]}) than that of the zoo in {job.zoo} "
            f"({zoo.base.sha256[:12]}); write the jobs again with: mvp-edge zoo plan"
        )
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    if zoo.catalogue().generalist.sum() < len(job.after):
        raise ConfigError(f"job {job.job} comes after {len(job.after)} others; do these first: {list(job.after)}")
    if job.kind == "generalist":
        keeps = [each.keep for each in jobs]
        return build_generalists(zoo, prunable, source, keeps, job.config, device=device, progress=progress)
    only = [each.task for each in jobs if each.task is not None]
    return build_specialists(
        zoo, prunable, source, job.config, device=device, progress=progress, only=only, patience_s=float("inf")
    )


def run_lines(lines: str) -> str:
    """Do jobs, given as lines; return what went wrong that another attempt would not mend, or nothing.

    This is what engines run: text goes in and out, whatever they send it with.
    """
    try:
        make([Job.from_line(line) for line in lines.splitlines()], SilentProgress())
    except MvpEdgeError as e:
        return str(e)
    return ""
