"""Options that several commands share, and how their values are checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from mvp_edge import config
from mvp_edge.core.errors import ConfigError
from mvp_edge.training.recipes import Purpose, recipe

INPUT, OUTPUT, SIZE, VOTING, TRAINING, MACHINE = "Input", "Output", "Size", "Voting", "Training", "Machine"
T = TypeVar("T")


def checked(make: Callable[[], T]) -> T:
    """Make a settings object from flags; a value that it refuses is a usage error (exit 2)."""
    try:
        return make()
    except ConfigError as e:
        raise typer.BadParameter(str(e)) from e


def device_name(value: str) -> str:
    """Check the spelling of a device; whether the machine has it is seen later."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} is none of auto, cpu, cuda, cuda:N, mps")
    return value


def fraction(text: str) -> float:
    """Read a number; whether it is a fraction is checked with the other settings."""
    try:
        return float(text)
    except ValueError as e:
        percent = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*%\s*", text)
        wanted = f"write {float(percent[1]) / 100:g}" if percent else "write a fraction such as 0.1"
        raise typer.BadParameter(f"{text!r} is no number; {wanted}") from e


def print_json(value: Any) -> None:
    """Print a result for machines, in the format of `report.json`, but in ASCII: not every stdout is UTF-8."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def rate(purpose: Purpose, what: str = "") -> Any:
    """Return the option for the peak learning rate; its default depends on the network."""
    sgd, adamw = (recipe(purpose, optimizer).lr for optimizer in ("sgd", "adamw"))
    shown = f"{sgd:g}, or {adamw:g} with adamw"
    return typer.Option("--lr", help=f"Peak learning rate{what}.", show_default=shown, rich_help_panel=TRAINING)


Task = Annotated[
    Path,
    typer.Option(
        "--task",
        metavar="FILE|-",
        help="Class list: a name a line, # comments, name = synset for a WordNet sense; - reads standard input.",
        rich_help_panel=INPUT,
    ),
]


def data_option(without: str = "") -> Any:
    """Return the option for images; `without` says what happens where there are none."""
    images = "Images: DIR/{train,test}/CLASS/*, DIR/CLASS/*, or a set such as cifar100."
    return typer.Option("--data", metavar="DIR|NAME", help=f"{images} {without}".strip(), rich_help_panel=INPUT)


Data = Annotated[str, data_option()]
OptionalData = Annotated[str | None, data_option("Optional: without any, tasks are compared by their words.")]
ZooName = Annotated[
    str | None,
    typer.Option(
        "--zoo", metavar="NAME|DIR", help="Bundled or own zoo. Default: the bundled one.", rich_help_panel=INPUT
    ),
]
Keep = Annotated[
    float,
    typer.Option(
        "--keep", metavar="FLOAT", parser=fraction, help="Fraction of the units to keep, in (0, 1].",
        rich_help_panel=SIZE,
    ),
]  # fmt: skip
ChannelMultiple = Annotated[
    int, typer.Option("--channel-multiple", help="Kept counts are multiples of this; 1 = any.", rich_help_panel=SIZE)
]
Similarity = Annotated[
    config.Similarity, typer.Option("--similarity", help="Nearest by images or by words.", rich_help_panel=VOTING)
]
Voters = Annotated[
    config.Voters, typer.Option("--voters", help="Members that may vote, by kind.", rich_help_panel=VOTING)
]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Images a step.", rich_help_panel=TRAINING)]
Optimizer = Annotated[
    config.Optimizer | None,
    typer.Option(
        "--optimizer", help="Of training.", show_default="adamw for networks with attention, else sgd",
        rich_help_panel=TRAINING,
    ),
]  # fmt: skip
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.", rich_help_panel=OUTPUT)]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", callback=device_name, help="auto, cpu, cuda, cuda:N or mps.",
        rich_help_panel=MACHINE,
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, metavar="N", help="CPU threads to compute on. Default: torch's own choice.",
        rich_help_panel=MACHINE,
    ),
]  # fmt: skip
Bf16 = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        "--bf16", help="Train in bfloat16. auto: with AMX or a recent CUDA card.", rich_help_panel=MACHINE,
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same device: same result.", rich_help_panel=MACHINE)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.", rich_help_panel=OUTPUT)]
