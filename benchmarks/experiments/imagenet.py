"""The paper's ImageNet protocol, ResNet-50 and DeiT-small, for whoever has the images and the hours.

    mvp-edge zoo build ZOO --base timm:resnet50 --data IMAGENET --members 1000 --iterations 1000 --lr 0.005
    python -m benchmarks imagenet --folder imagenet=IMAGENET --folder resnet50-zoo=ZOO [--folder deit-zoo=ZOO2]

One configuration for both bases; nothing of it has been run where the records of this repository were made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.experiments import vit
from benchmarks.methods import EQUATION_1
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import ahnp_row, ifp_row, mvp_row, random_row
from benchmarks.suite.running import cases, try_rows, why_not
from mvp_edge.config import FitConfig
from mvp_edge.zoo.store import open_zoo

NAME = "imagenet"
TASKS = 100


@dataclass(frozen=True)
class Protocol:
    """A base of the paper: its zoo, what prunes it, how it is fine-tuned, and the paper's figures.

    The figures are those of the long run, of random pruning and of MVP.
    """

    folder: str
    base: str
    title: str
    method: str
    pruner: Callable[..., Row]
    fit: FitConfig
    paper: tuple[str, str, str]


PROTOCOLS = (
    Protocol("resnet50-zoo", "timm:resnet50", "ResNet-50", "ifp", ifp_row, FitConfig(), ("91.16", "22.42", "91.80")),
    Protocol(
        "deit-zoo", "timm:deit_small_patch16_224", "DeiT-small", "ahnp", ahnp_row, vit.FIT, ("89.48", "58.71", "89.23")
    ),
)


def rows(context: Context) -> list[Row]:
    """Return the long run, random pruning and MVP for each base."""
    return [row for protocol in PROTOCOLS for row in _rows(context, protocol)]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing on the zoos that are given."""
    for protocol in PROTOCOLS:
        mine = [r for r in rows if r.name.startswith(protocol.folder)]
        if not mine[0].missing:
            zoo = open_zoo(str(context.folders[protocol.folder]))
            try_rows(NAME, mine, cases(context, TASKS, dataset="imagenet", zoo=zoo))


def _rows(context: Context, protocol: Protocol) -> list[Row]:
    common: dict[str, Any] = {"dataset": "imagenet", "base": protocol.base, "missing": _missing(context, protocol)}
    long, lower, ours = protocol.paper

    def named(method: str, iterations: int) -> dict[str, Any]:
        words = "random units" if method == "random" else method.upper()
        return {"name": f"{protocol.folder}-{method}", "title": f"{protocol.title}: {words}, {iterations} iterations"}

    return [
        protocol.pruner(context, 1000, paper=long, **named(protocol.method, 1000), **common),
        random_row(context, 100, fit=protocol.fit, paper=lower, **named("random", 100), **common),
        mvp_row(context, 100, fit=protocol.fit, vote=EQUATION_1, paper=ours, **named("mvp", 100), **common),
    ]


def _missing(context: Context, protocol: Protocol) -> str:
    lacking = [name for name in ("imagenet", protocol.folder) if name not in context.folders]
    if lacking:
        given = " ".join(f"--folder {name}=DIR" for name in lacking)
        return f"the images and a zoo of this base are not at hand; give {given}"
    return why_not(context, "imagenet")


EXPERIMENT = Experiment(NAME, "the paper's ImageNet protocol, on your images", "Tables 1, 2", 0, rows, run)
