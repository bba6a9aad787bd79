"""Entry point: the time is taken, and signals are listened to, before the first slow import."""

from __future__ import annotations

import contextlib
import io
import sys

from . import interrupt, start


def main() -> None:
    """Run the command line."""
    start.mark()
    interrupt.listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a class may have a name that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        from .app import app

        app()
    except KeyboardInterrupt as e:
        with contextlib.suppress(OSError):  # the terminal may have been closed
            sys.stderr.write(f"{interrupt.message(e)}\n")
        sys.exit(interrupt.status())
