"""Table 2: MVP and its rivals on a vision transformer. Its zoo is given with `--folder vit-zoo=DIR`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.experiment import Context, Experiment, Row
from benchmarks.methods import EQUATION_1, mvp_row, random_row
from benchmarks.running import cases, try_rows, why_not
from mvp_edge.zoo import open_zoo

NAME = "table2"
TASKS = 5


def rows(context: Context) -> list[Row]:
    """Return the rows of the table, in the paper's order."""
    missing = _missing(context)
    return [
        random_row(context, 100, paper="58.71", missing=missing),
        mvp_row(context, 100, vote=EQUATION_1, paper="89.23", title="MVP, 100 iterations", missing=missing),
    ]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not _missing(context):
        zoo = open_zoo(str(context.folders["vit-zoo"]))
        try_rows(NAME, rows, cases(context, TASKS, zoo=zoo))


def _missing(context: Context) -> str:
    if "vit-zoo" not in context.folders:
        return "there is no zoo of a vision transformer; make one and give it with --folder vit-zoo=DIR"
    return why_not(context, "cifar100")


EXPERIMENT = Experiment(NAME, "does it hold for vision transformers?", "Table 2", 60, rows, run)
