"""The zoo of a vision transformer, the bundled one or what `--folder vit-zoo=DIR` names, and how its tables train."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.suite.experiment import Context
from benchmarks.suite.running import why_not
from mvp_edge.core.errors import ZooError
from mvp_edge.training.recipes import recipe
from mvp_edge.zoo.store import Zoo, open_zoo

FOLDER = "vit-zoo"
BUNDLED = "cifar100-vit"
BASE = "vit-cifar100"
OURS = replace(recipe("prune", "adamw"), distill=0.9)
FIT = replace(OURS, warmup=0.0, distill=0.0)
"""As the paper fine-tunes."""


def missing(context: Context) -> str:
    """Say why nothing can be run on a vision transformer; empty if it can."""
    try:
        opened(context)
    except ZooError as e:
        return f"{str(e).splitlines()[0]}; give one with --folder {FOLDER}=DIR"
    return why_not(context, "cifar100")


def opened(context: Context) -> Zoo:
    """Return the zoo.

    Raises:
        ZooError: it cannot be read.
    """
    return open_zoo(str(context.folders.get(FOLDER, BUNDLED)))
