"""This process: when its command was typed, and the signals that ask it to stop.

Ctrl-C, `kill` and a closed terminal all raise KeyboardInterrupt. During an import it may come out as an ImportError
instead (numpy's extension modules cannot be loaded twice), so the app checks here whether an unexpected error was
caused by a signal. It may also be lost in a bare `except` or a destructor of other code, so progress checks here at
every step.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # by name, because Windows lacks the last
_started: list[float] = []
_received: list[int] = []


def start() -> None:
    """Record that the command starts now, and handle signals from now on, except those that `nohup` ignores."""
    _started[:] = [time.perf_counter()]
    for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _receive)


def started() -> float | None:
    """Return when the command started, by `time.perf_counter`; None if it was called from Python."""
    return _started[0] if _started else None


def interrupted() -> bool:
    """Return whether a signal has asked the process to stop."""
    return bool(_received)


def check() -> None:
    """Raise KeyboardInterrupt if a signal has asked the process to stop."""
    if interrupted():
        raise KeyboardInterrupt


def status() -> int:
    """Return the exit status after a signal, as shells define it: 130 after Ctrl-C."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def message(error: BaseException) -> str:
    """Return the line to print; a KeyboardInterrupt may say what is kept."""
    kept = str(error) if isinstance(error, KeyboardInterrupt) else ""
    return f"interrupted; {kept or 'nothing was written'}"


def _receive(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt
