"""Entry point: records the time and handles signals before the first slow import."""

from __future__ import annotations

import contextlib
import io
import sys

from . import process


def main() -> None:
    """Run the command line."""
    process.start()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # class names may contain characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        from .app import app

        app()
    except KeyboardInterrupt as e:
        with contextlib.suppress(OSError):  # the terminal may have been closed
            sys.stderr.write(f"{process.message(e)}\n")
        sys.exit(process.status())
