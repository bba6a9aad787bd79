"""Table 2: MVP and its rivals on a vision transformer. Its zoo is given with `--folder vit-zoo=DIR`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from benchmarks.baselines.power import Power
from benchmarks.baselines.uvc import Uvc
from benchmarks.experiment import Context, Experiment, Form, Row
from benchmarks.methods import EQUATION_1, mvp_row, random_row
from benchmarks.running import cases, try_rows, why_not
from benchmarks.targets import Setting
from mvp_edge.config import FitConfig
from mvp_edge.zoo import open_zoo

NAME = "table2"
TASKS = 5
FIT = FitConfig(lr=2e-4, optimizer="adamw")  # the paper's rate for MVP
DISTILL = 0.1  # UVC's own share of distillation


def rows(context: Context) -> list[Row]:
    """Return the rows of the table, in the paper's order."""
    missing = _missing(context)
    pruner = "AHNP is not in this version"
    return [
        Row("ahnp-1000", "ahnp", "AHNP, 1000 iterations", None, iterations=context.steps(1000), paper="89.48",
            missing=missing or pruner),
        random_row(context, 100, fit=FIT, paper="58.71", missing=missing),
        _rival(context, "uvc", "UVC", Uvc(), replace(FIT, distill=DISTILL), "sliced", "80.30", missing),
        _rival(context, "power", "PoWER", Power(), FIT, "tokens", "77.76", missing),
        mvp_row(context, 100, fit=FIT, vote=EQUATION_1, paper="89.23", title="MVP, 100 iterations", missing=missing),
    ]  # fmt: skip


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not _missing(context):
        zoo = open_zoo(str(context.folders["vit-zoo"]))
        try_rows(NAME, rows, cases(context, TASKS, zoo=zoo))


def _rival(
    context: Context, method: str, title: str, train: Callable[[Setting, FitConfig], nn.Module], fit: FitConfig,
    form: Form, paper: str, missing: str,
) -> Row:  # fmt: skip
    """Return a rival; its nominal cost is that of its bound over all iterations, as the paper's own figures are."""
    steps = context.steps(100)
    config = replace(fit, iterations=steps)
    settings: Any = asdict(train)  # pyright: ignore[reportArgumentType]
    hyper = {**settings, "lr": fit.lr, "optimizer": fit.optimizer, "distill": fit.distill}
    return Row(
        f"{method}-100", method, f"{title}, 100 iterations", lambda s: train(s, config), iterations=steps,
        dense_iterations=settings["keep"] * steps, hyper=hyper, form=form, paper=paper, missing=missing,
        seconds=2.0 * steps,
    )  # fmt: skip


def _missing(context: Context) -> str:
    if "vit-zoo" not in context.folders:
        return "there is no zoo of a vision transformer; make one and give it with --folder vit-zoo=DIR"
    return why_not(context, "cifar100")


EXPERIMENT = Experiment(NAME, "does it hold for vision transformers?", "Table 2", 60, rows, run)
