"""Progress on stderr: bars on a terminal, a rare line in a log, nothing with --quiet."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from . import process

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from mvp_edge.core.progress import Progress, Stage

HEARTBEAT_S = 10.0
STARTING = "Starting"  # the stage in which torch is imported


@contextlib.contextmanager
def shown(*, quiet: bool) -> Iterator[Progress]:
    """Yield the progress reporter that suits stderr; bars disappear when the block ends."""
    if quiet:
        yield Log(float("inf"))
    elif not sys.stderr.isatty():
        yield Log(HEARTBEAT_S)
    else:
        with _bars() as bars:
            yield Terminal(bars)


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("[dim]{task.fields[note]}", markup=True),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=float("inf"),  # of all steps: in the 30 s that are usual no member of a zoo is made
    )


class Terminal:
    """Draws every stage as a line with a bar, or a spinner where the number of steps is unknown."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Open a stage; a finished one stays visible until the command ends."""
        process.check()
        task = self._bars.add_task(name, total=total, note="")
        yield _TerminalStage(self._bars, task)
        done = total if total is not None else 1
        self._bars.update(task, total=done, completed=done)


class _TerminalStage:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1) -> None:
        process.check()
        self._bars.advance(self._task, n)

    def note(self, text: str) -> None:
        from rich.markup import escape

        self._bars.update(self._task, note=escape(text))


class Log:
    """Writes a line at most every `interval_s` seconds, so that a log shows that a long job is running."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last = time.monotonic()

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Open a stage."""
        process.check()
        yield _LogStage(self, name, total)

    def say(self, text: str) -> None:
        """Write a line, unless the last one is too recent."""
        now = time.monotonic()
        if now - self._last >= self._interval_s:
            self._last = now
            typer.echo(text, err=True)


class _LogStage:
    def __init__(self, log: Log, name: str, total: int | None) -> None:
        self._log, self._name, self._total = log, name, total
        self._done, self._note = 0, ""
        self._began = time.monotonic()

    def advance(self, n: int = 1) -> None:
        process.check()
        self._done += n
        share = f" {self._done}/{self._total}, {self._left()} left" if self._total and self._done else ""
        self._log.say(f"{self._name}{share}" + (f" ({self._note})" if self._note else ""))

    def _left(self) -> str:
        """Return the time that the other steps will take if they take as long as those before."""
        seconds = (time.monotonic() - self._began) / self._done * ((self._total or 0) - self._done)
        return str(timedelta(seconds=round(max(0.0, seconds))))

    def note(self, text: str) -> None:
        self._note = text
