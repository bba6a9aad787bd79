"""Progress of a running job, and the seconds that its stages take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol


class Stage(Protocol):
    """One stage of a running job."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more steps as done."""
        ...

    def note(self, text: str) -> None:
        """Show a short text beside the stage."""
        ...


class Progress(Protocol):
    """Progress reporter of a job; the command line draws it."""

    def stage(self, name: str, total: int | None = None) -> AbstractContextManager[Stage]:
        """Open the stage called `name` with `total` steps, if their number is known."""
        ...


class SilentProgress:
    """Progress reporter that shows nothing."""

    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Open a stage that shows nothing."""
        yield self


class Stopwatch:
    """Wall-clock seconds by stage name.

    Args:
        began: When the job began, by `time.perf_counter`; until now it was in the stage `start`. None: it begins now.
    """

    def __init__(self, began: float | None = None) -> None:
        now = time.perf_counter()
        self.start = now if began is None else began
        self.seconds: dict[str, float] = {} if began is None else {"start": now - began}

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        """Add the duration of the block to stage `name`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    @property
    def total(self) -> float:
        """Seconds since the job began."""
        return time.perf_counter() - self.start

    def rounded(self) -> dict[str, float]:
        """Return the seconds of each stage, and in total."""
        return {k: round(v, 3) for k, v in self.seconds.items()} | {"total": round(self.total, 3)}
