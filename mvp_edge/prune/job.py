"""The door to the main job: settings are checked once, then a model is made, or one for each of several budgets.

settings -> job: names alone | photographs on ready-made bodies | a vote of members -> models and their reports

Names alone do without torch, so what trains is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mvp_edge.config import Budget, PruneConfig, check
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.output import result_directory
from mvp_edge.core.progress import Progress, SilentProgress, Stopwatch
from mvp_edge.names.base_classes import Resolution
from mvp_edge.names.tasks import Task
from mvp_edge.prune.expected import read_request
from mvp_edge.prune.family import write_index
from mvp_edge.prune.named import make_named
from mvp_edge.prune.request import check_place, requested_names, requested_task, requested_with_photographs
from mvp_edge.report import FamilyReport, Report
from mvp_edge.zoo.bodies import BodyZoo, open_bodies

Make = Callable[[PruneConfig, Path, Progress, Stopwatch], Report]
Prepare = Callable[[Sequence[PruneConfig], Progress, Stopwatch], Make]


@dataclass(frozen=True, eq=False)
class Job:
    """Settings that were checked, with the class list that was read: one that comes through a pipe is read only once.

    Attributes:
        config: The settings.
        zoo: Its ready-made bodies; None if members vote.
        prepare: Does what models of several sizes share and returns what makes one of them.
    """

    config: PruneConfig
    zoo: BodyZoo | None
    prepare: Prepare

    @property
    def trains(self) -> bool:
        """Whether it needs torch."""
        return self.zoo is None or self.config.data is not None


def read_job(config: PruneConfig, progress: Progress | None = None) -> Job:
    """Check the settings, the class list and the zoo's description.

    Raises:
        MvpEdgeError: one of them cannot be used, or a result cannot be written there.
    """
    check_place(config)
    if config.base is not None:
        from mvp_edge.prune.base_zoo import zoo_of_base

        made = zoo_of_base(config.base, config.weights, progress or SilentProgress())
        config = replace(config, zoo=str(made))
    zoo = open_bodies(config.zoo)
    if zoo is None:
        if config.none is not None:
            raise ConfigError(
                "--none sets the threshold of an output that only files of ready-made networks have; leave it out"
            )
        return Job(config, None, partial(_by_vote, requested_task(config)))
    if config.data is None:
        return Job(config, zoo, partial(_by_names, zoo, requested_names(config, zoo)))
    return Job(config, zoo, partial(_by_photographs, zoo, requested_with_photographs(config, zoo)))


def compress(
    config: PruneConfig, progress: Progress | None = None, began: float | None = None, job: Job | None = None
) -> Report:
    """Make a compact model for a task and write it with its report.

    Args:
        config: Settings of the run.
        progress: Progress reporter.
        began: When the job began, by `time.perf_counter`, if that was earlier, as the command's imports take seconds.
        job: Result of `read_job`, if it was called.

    Returns:
        The report.

    Raises:
        MvpEdgeError: an input cannot be used; nothing is written then.
    """
    progress, clock = progress or SilentProgress(), Stopwatch(began)
    job = job or read_job(config, progress)
    make = job.prepare([job.config], progress, clock)
    with result_directory(job.config.out, lambda: check_place(job.config)) as directory:
        return make(job.config, directory, progress, clock)


def compress_family(
    config: PruneConfig,
    budgets: Sequence[Budget],
    progress: Progress | None = None,
    began: float | None = None,
    job: Job | None = None,
) -> FamilyReport:
    """Make a model for each budget, each in a directory named after it, and an index that compares them.

    Args:
        config: Settings of the run; its own budget is ignored.
        budgets: At least one; no two alike.
        progress: Progress reporter.
        began: As for `compress`.
        job: Likewise.

    Returns:
        The report of the family.

    Raises:
        MvpEdgeError: an input cannot be used, a budget cannot be met, or the family is to be added to a zoo; nothing is
            written then.
    """
    progress, clock = progress or SilentProgress(), Stopwatch(began)
    job = job or read_job(config, progress)
    configs = _with_budgets(job.config, budgets)
    make = job.prepare(configs, progress, clock)
    with result_directory(job.config.out, lambda: check_place(job.config)) as directory:
        reports = []
        for each in configs:
            place = directory / each.out.name
            place.mkdir()
            reports.append(make(each, place, progress, Stopwatch()))
        return write_index(job.config, [c.out.name for c in configs], reports, directory, clock)


def _with_budgets(config: PruneConfig, budgets: Sequence[Budget]) -> list[PruneConfig]:
    """Return the settings of each model.

    Raises:
        ConfigError: a budget is given twice or none is, or the family is to be added to a zoo.
    """
    labels = [b.label for b in budgets]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    problems = [f"budget {label} is given twice" for label in twice] or ([] if budgets else ["no budget is given"])
    if config.add_to_zoo and labels:
        one = config.out / labels[0]
        problems.append(f"a family is not added to a zoo; add one of its models with: mvp-edge zoo add {one}")
    check(problems)
    return [replace(config, budget=b, out=config.out / b.label) for b in budgets]


def _by_names(
    zoo: BodyZoo, resolution: Resolution, configs: Sequence[PruneConfig], progress: Progress, clock: Stopwatch
) -> Make:
    with clock.time("load"):
        return partial(make_named, read_request(configs[0], zoo, resolution))


def _by_photographs(
    zoo: BodyZoo, resolution: Resolution, configs: Sequence[PruneConfig], progress: Progress, clock: Stopwatch
) -> Make:
    from mvp_edge.prune.photographs import make_photographed, prepare

    return partial(make_photographed, prepare(zoo, resolution, configs, progress, clock))


def _by_vote(task: Task, configs: Sequence[PruneConfig], progress: Progress, clock: Stopwatch) -> Make:
    from mvp_edge.prune.voted import make_voted, prepare, size

    prepared = prepare(configs[0], task, progress, clock)
    with clock.time("size"):  # all of them first, as in `photographs.prepare`
        sizings = {each.out: size(prepared, each, progress) for each in configs}
    return lambda config, *rest: make_voted(prepared, sizings[config.out], config, *rest)
