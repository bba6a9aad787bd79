"""Table 1: MVP and its rivals on ResNet-18 and CIFAR-100, keep 0.1, the same target tasks for all."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.experiment import Context, Experiment, Row
from benchmarks.methods import EQUATION_1, ifp_row, mvp_row, random_row
from benchmarks.running import cases, try_rows, why_not

NAME = "table1"


def rows(context: Context) -> list[Row]:
    """Return the rows of the table, in the paper's order."""
    common = {"missing": why_not(context, "cifar100")}
    return [
        ifp_row(context, 1000, paper="87.99", **common),
        random_row(context, 100, paper="33.12", **common),
        mvp_row(context, 100, title="MVP, top votes, 100 iterations", **common),
        mvp_row(
            context, 100, name="mvp-sample-100", title="MVP, votes sampled as in Equation 1, 100 iterations",
            vote=EQUATION_1, paper="88.98", **common,
        ),
    ]  # fmt: skip


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not why_not(context, "cifar100"):
        try_rows(NAME, rows, cases(context, 20))


EXPERIMENT = Experiment(NAME, "is MVP(100) as good as IFP(1000)? and its rivals?", "Table 1", 240, rows, run)
