"""Ctrl-C, `kill` and a terminal that closes, remembered: what they hit does not always say so.

All of them become a KeyboardInterrupt, so that each leaves as little behind as Ctrl-C does. In the middle of an import
one can come out as an ImportError (numpy's extension modules cannot be loaded twice), so the boundary of the app asks
here whether an odd error is one. It can also be lost, in a bare `except` or a destructor of somebody else's, so
progress asks here at every step whether there was one.
"""

from __future__ import annotations

import signal
from types import FrameType

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")  # by name: Windows lacks the last
_seen: list[int] = []


def listen() -> None:
    """Remember every signal that asks the program to stop from now on; one that `nohup` has silenced stays silent."""
    for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _remember)


def received() -> bool:
    """Say whether there was such a signal."""
    return bool(_seen)


def status() -> int:
    """Return the exit status that shells give a program which a signal has stopped: 130 after Ctrl-C."""
    return 128 + (_seen[0] if _seen else signal.SIGINT)


def check() -> None:
    """Raise the KeyboardInterrupt that was asked for, if a signal has come.

    Raises:
        KeyboardInterrupt: one has.
    """
    if received():
        raise KeyboardInterrupt


def message(error: BaseException) -> str:
    """Return what the user is told; a command that keeps what it has done says so in its KeyboardInterrupt."""
    kept = str(error) if isinstance(error, KeyboardInterrupt) else ""
    return f"interrupted; {kept or 'nothing was written'}"


def _remember(number: int, frame: FrameType | None) -> None:
    _seen.append(number)
    raise KeyboardInterrupt
