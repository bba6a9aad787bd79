"""The app: its commands, each imported when it is used, and one place where errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from mvp_edge import __version__
from mvp_edge.core.errors import MvpEdgeError

from . import process

# The first line of each command's help, here so that `mvp-edge --help` imports none of them.
COMMANDS = {
    "prune": "Make a compact model for the classes of a list: ONNX file, labels, plan, weights and report.",
    "neighbours": "Show the zoo members nearest to a class list, by images (LEEP) or by names (WordNet).",
    "bench": "Measure the latency of ONNX models on this machine, in turns, with ONNX Runtime on the CPU.",
    "eval": "Measure the top-1 accuracy of a model on the test images of its classes.",
    "data": "Show which images a folder holds, by class and split, which are set aside, damaged or copies, and leaks.",
    "predict": "Classify pictures with a model that `prune` or `export` made.",
    "export": "Make a folder for Android, iOS, the web or ONNX Runtime: models, labels, preprocessing and code.",
    "push": "Publish a result of `prune` with a card: models, labels and config.json.",
    "zoo": "Make, extend and inspect a zoo of pruned models.",
    "pretrain": "Train a base model: one safetensors file with metadata.",
    "bases": "List the registered base models and those of the bundled zoos, or show what of a network can be pruned.",
}
MODULES = {"eval": "evaluate"}  # `eval` is a builtin
_ADDRESS = re.compile(r"\b(https?|ftp|hf|s3|gs):/(?=[^/])")


class Commands(TyperGroup):
    """Imports a command when it is used, and turns errors that a user can cause into one line on stderr.

    Exit status: 1 for such an error, 2 for wrong usage, 130 after Ctrl-C, 143 after `kill`.
    """

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the command line."""
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt as e:
            _stop(process.message(e), process.status(), e)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command and its arguments."""
        if args[0] in COMMANDS:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, so that a closed pipe raises inside this block
            return result
        except KeyboardInterrupt as e:
            _stop(process.message(e), process.status(), e)
        except BrokenPipeError as e:
            # The reader of stdout has gone; without this, Python would report that once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from e
        except typer.BadParameter as e:
            e.message = e.message.removeprefix("Value error, ")  # typer's prefix for parsers
            raise
        except Exception as e:
            if process.interrupted() and not isinstance(e, typer.Exit):
                _stop(process.message(e), process.status(), e)
            if isinstance(e, MvpEdgeError):
                _stop(f"error: {one_line(e)}", 1, e)
            if isinstance(e, MemoryError):
                _stop(f"error: out of memory ({e}); use smaller settings, or close other programs", 1, e)
            if isinstance(e, OSError) and e.strerror:  # paths that are too long, loops of links, a full disk
                path = "" if e.filename is None else f"{e.filename}: "
                _stop(f"error: {path}{e.strerror}; check the path, its permissions and the free space", 1, e)
            raise


def load(name: str) -> Any:
    """Import a command and return it."""
    owner = typer.Typer(rich_markup_mode="rich")
    import_module(f".{MODULES.get(name, name)}", __package__).register(owner)
    return get_group(owner).commands[name]


def one_line(error: Exception) -> str:
    """Return an error's message on one line."""
    text = _ADDRESS.sub(r"\1://", str(error))  # a path that is an address has lost a slash
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line if line.endswith((":", ";", ".", ",")) else f"{line};" for line in lines).removesuffix(";")


def _stop(message: str, code: int, cause: BaseException) -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may have been closed
        typer.echo(message, err=True)
    raise typer.Exit(code) from cause


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mvp-edge {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="mvp-edge",
    cls=Commands,
    help="Make compact image classifiers for edge devices from class names, with or without images.",
    epilog="Start with: mvp-edge prune --task classes.txt",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)
