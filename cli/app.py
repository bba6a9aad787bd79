"""The app: its commands, and the boundary at which errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mvp_edge import __version__
from mvp_edge.core.errors import MvpEdgeError

from . import bases, bench, evaluate, export, interrupt, neighbours, pretrain, prune, zoo


class Boundary(TyperGroup):
    """Turns what a user can cause into one line on stderr: exit 1; usage errors stay 2, Ctrl-C is 130, `kill` 143."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the command line."""
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt as e:
            _stop(interrupt.message(e), interrupt.status(), e)

    def invoke(self, ctx: typer.Context) -> Any:
        """Run a command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, so that a closed pipe is met inside the boundary
            return result
        except KeyboardInterrupt as e:
            _stop(interrupt.message(e), interrupt.status(), e)
        except BrokenPipeError as e:
            # Whoever read our output has gone; without this, Python would complain once more while it shuts down.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from e
        except typer.BadParameter as e:
            e.message = e.message.removeprefix("Value error, ")  # of the library that reads choices
            raise
        except Exception as e:
            if interrupt.received() and not isinstance(e, typer.Exit):
                _stop(interrupt.message(e), interrupt.status(), e)
            if isinstance(e, MvpEdgeError):
                _stop(f"error: {one_line(e)}", 1, e)
            if isinstance(e, MemoryError):
                _stop(f"error: the memory is not enough ({e}); ask for less at once, or close other programs", 1, e)
            if isinstance(e, OSError) and e.strerror:  # paths that are too long, loops of links, a disk that is full
                path = "" if e.filename is None else f"{e.filename}: "
                _stop(f"error: {path}{e.strerror}; check the path, its permissions and the space on the disk", 1, e)
            raise


def _stop(message: str, code: int, cause: BaseException) -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may have been closed
        typer.echo(message, err=True)
    raise typer.Exit(code) from cause


def one_line(error: Exception) -> str:
    """Return an error's message on one line, whatever its problems are separated by."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(line if line.endswith((":", ";", ".", ",")) else f"{line};" for line in lines).removesuffix(";")


app = typer.Typer(
    name="mvp-edge",
    cls=Boundary,
    help="Make compact image classifiers for edge devices: earlier pruned models vote on what to keep.",
    epilog="Begin with: mvp-edge prune --task classes.txt",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
prune.register(app)
neighbours.register(app)
bench.register(app)
evaluate.register(app)
export.register(app)
zoo.register(app)
pretrain.register(app)
bases.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mvp-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
