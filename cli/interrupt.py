"""Ctrl-C, remembered: what it hits does not always say so.

A KeyboardInterrupt in the middle of an import can come out as an ImportError (numpy's extension modules cannot be
loaded twice), so the boundary of the app asks here whether an odd error is one. It can also be lost, in a bare `except`
or a destructor of somebody else's, so progress asks here at every step whether there was one.
"""

from __future__ import annotations

import signal
from types import FrameType

STATUS = 130
_seen: list[int] = []


def listen() -> None:
    """Remember every Ctrl-C from now on."""
    signal.signal(signal.SIGINT, _remember)


def received() -> bool:
    """Say whether there was a Ctrl-C."""
    return bool(_seen)


def check() -> None:
    """Raise the KeyboardInterrupt that was asked for, if there was a Ctrl-C.

    Raises:
        KeyboardInterrupt: there was.
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
