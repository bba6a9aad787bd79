"""The zoo of a vision transformer, which whoever has one gives with `--folder vit-zoo=DIR`."""

from __future__ import annotations

from benchmarks.experiment import Context
from benchmarks.running import why_not
from mvp_edge.zoo import Zoo, open_zoo

FOLDER = "vit-zoo"
BASE = "vit-cifar100"


def missing(context: Context) -> str:
    """Say why nothing can be run on a vision transformer; empty if it can."""
    if FOLDER not in context.folders:
        return f"there is no zoo of a vision transformer; make one and give it with --folder {FOLDER}=DIR"
    return why_not(context, "cifar100")


def opened(context: Context) -> Zoo:
    """Return the zoo."""
    return open_zoo(str(context.folders[FOLDER]))
