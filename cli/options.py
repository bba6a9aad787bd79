"""Options that several commands share, and the check of their values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from mvp_edge import config
from mvp_edge.core.errors import ConfigError
from mvp_edge.training.recipes import Purpose, recipe

T = TypeVar("T")


def panel(name: str) -> Callable[..., Any]:
    """Return `typer.Option` for the options of one panel of the help."""
    return partial(typer.Option, rich_help_panel=name)


input_option, output_option, size_option = panel("Input"), panel("Output"), panel("Size")
voting_option, training_option, machine_option = panel("Voting"), panel("Training"), panel("Machine")


def checked(make: Callable[[], T]) -> T:
    """Make a settings object from flags; an invalid value is a usage error (exit 2)."""
    try:
        return make()
    except ConfigError as e:
        raise typer.BadParameter(str(e)) from e


def device_name(value: str) -> str:
    """Check the spelling of a device; whether the machine has it is checked later."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} must be one of auto, cpu, cuda, cuda:N, mps")
    return value


def fraction(text: str) -> float:
    """Read a number; its range is checked with the other settings."""
    try:
        return float(text)
    except ValueError as e:
        percent = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*%\s*", text)
        wanted = f"write {float(percent[1]) / 100:g}" if percent else "write a fraction such as 0.1"
        raise typer.BadParameter(f"{text!r} is not a number; {wanted}") from e


def example(words: str) -> str:
    """Return an epilog with an example."""
    return f"[bold]Example[/]\n\nmvp-edge {words}"


def print_json(value: Any) -> None:
    """Print a result as JSON, in ASCII because not every stdout is UTF-8."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def rate(purpose: Purpose, what: str = "", also: str = "") -> Any:
    """Return the option for the peak learning rate; `also` adds a default to those by optimiser."""
    sgd, adamw = (recipe(purpose, optimizer).lr for optimizer in ("sgd", "adamw"))
    shown = f"{sgd:g}, or {adamw:g} with adamw{also}"
    return training_option("--lr", help=f"Peak learning rate{what}.", show_default=shown)


Task = Annotated[
    Path,
    input_option(
        "--task",
        metavar="FILE|-",
        help="Class list: one name per line; # starts a comment, crane = crane.n.05 picks a WordNet sense; - reads "
        "stdin.",
    ),
]


def data_option(without: str = "") -> Any:
    """Return the option for images; `without` says what happens without it."""
    images = (
        "Images: DIR/{train,test}/CLASS/*, DIR/CLASS/*, a zip or tar of it, a CSV or JSON Lines file of path and "
        "label, hf://datasets/ORG/NAME, or a data set such as cifar100."
    )
    return input_option("--data", metavar="DIR|FILE|NAME", help=f"{images} {without}".strip())


Data = Annotated[str, data_option()]
OptionalData = Annotated[str | None, data_option("Optional: without images, classes are compared by name.")]
GroupBy = Annotated[
    str | None,
    input_option(
        "--group-by",
        metavar="REGEX|folder",
        help="Files with the same match, or in one folder, stay together: where the tool splits train and test, and "
        "where it leaves images out for choices.",
    ),
]
ZooName = Annotated[
    str | None,
    input_option(
        "--zoo",
        metavar="NAME|DIR|ADDRESS",
        help="The networks to start from: a bundled zoo, a directory, hf://ORG/NAME[@REVISION], s3://, gs:// or "
        "https://. Default: imagenet-lite0, which is bundled.",
    ),
]
Weights = Annotated[
    Path | None, input_option("--weights", metavar="FILE", help="Local file with the weights of --base.")
]
Result = Annotated[Path, typer.Argument(metavar="RESULT_DIR", help="A result of `mvp-edge prune`.")]
WHICH = "A bundled zoo, a directory, or the address of a published one."
ZooArgument = Annotated[str, typer.Argument(metavar="NAME|DIR|ADDRESS", help=WHICH)]
Target = Annotated[
    str,
    typer.Argument(metavar="ADDRESS|DIR", help="hf://ORG/NAME, s3://BUCKET/PATH, gs://BUCKET/PATH or a directory."),
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository of the Hub private.")]


def keep_option(where: str = "") -> Any:
    """Return the option for the fraction of the units to keep."""
    shown = f"{where}fraction of the units (channels, attention heads) to keep, in (0, 1]."
    return size_option("--keep", metavar="FLOAT", parser=fraction, help=shown[0].upper() + shown[1:])


Keep = Annotated[float, keep_option()]
ChannelMultiple = Annotated[
    int, size_option("--channel-multiple", help="Keep multiples of this many channels; 1 = any number.")
]
Similarity = Annotated[
    config.Similarity, voting_option("--similarity", help="Rank members by images (leep) or by names (wordnet).")
]
Voters = Annotated[
    config.Voters,
    voting_option(
        "--voters",
        help="Members that may vote. auto: one generalist if it knows all classes, else the nearest members.",
    ),
]
BatchSize = Annotated[int, training_option("--batch-size", help="Images per step.")]
Optimizer = Annotated[
    config.Optimizer | None,
    training_option(
        "--optimizer",
        help="Optimiser of training.",
        show_default="adamw for networks that have attention, and for ready-made ones in `prune`, else sgd",
    ),
]
NO_VOTE = "the networks of this zoo are ready-made and none vote, so {flags} no effect; leave {them} out"
Force = Annotated[bool, output_option("--force", help="Replace an existing result.")]
Device = Annotated[
    str, machine_option("--device", metavar="DEVICE", callback=device_name, help="auto, cpu, cuda, cuda:N or mps.")
]
Threads = Annotated[
    int | None, machine_option("--threads", min=1, metavar="N", help="CPU threads. Default: chosen by torch.")
]
Bf16 = Annotated[
    Literal["auto", "on", "off"],
    machine_option("--bf16", help="Train in bfloat16. auto: with AMX or a recent CUDA card."),
]
Seed = Annotated[int, machine_option("--seed", help="Random seed; same seed and device, same result.")]
Json = Annotated[bool, output_option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, output_option("--quiet", "-q", help="Show no progress.")]


def typed(context: typer.Context, *names: str) -> list[str]:
    """Return which of some flags were given on the command line."""
    sources = {name: context.get_parameter_source(name) for name in names}
    given = [n for n, s in sources.items() if s is not None and s.name == "COMMANDLINE"]
    return [f"--{'no-' * (context.params[n] is False)}{n.replace('_', '-')}" for n in given]


def idle(why: str, flags: Sequence[str]) -> str:
    """Return a note on flags that had no effect; `why` has a place for them and their verb."""
    verb, them = ("has", "it") if len(flags) == 1 else ("have", "them")
    return why.format(flags=f"{', '.join(flags)} {verb}", them=them)
