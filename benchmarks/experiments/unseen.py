"""Tables 3 and 5: tasks of data sets that the zoo has never seen; the zoo's base and members know CIFAR-100 only.

Images are brought to the size that the base takes, 32 pixels, where the paper's ResNet-50 and DeiT take 224: this asks
whether the vote carries over, not how good a small classifier of flowers can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.experiments.rates import suited, unchosen
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import ifp_row, mvp_row
from benchmarks.suite.running import cases, try_rows, why_not
from mvp_edge.config import FitConfig, VoteConfig

NAME = "unseen"
TASKS = 10


@dataclass(frozen=True)
class DataSet:
    """One half of a table.

    Attributes:
        name: Folder, or the name of a set that torchvision downloads.
        title: For people.
        few: The paper's short run.
        many: The paper's long run of IFP.
        batch: 64 for fine-grained sets, as the costs of Table 5 imply.
        paper: The paper's figures for IFP(many), IFP(few) and MVP(few), where it has this very set.
    """

    name: str
    title: str
    few: int
    many: int
    batch: int = 128
    paper: tuple[str, str, str] = ("", "", "")


SETS = (
    DataSet("caltech101", "Caltech-101", 60, 800),
    DataSet("caltech256", "Caltech-256", 60, 800, 128, ("80.28", "42.90", "80.72")),
    DataSet("cub200", "CUB-200", 80, 800, 32, ("77.09", "52.85", "79.54")),
    DataSet("flowers102", "Flowers-102", 60, 800, 64, ("95.20", "54.20", "95.40")),
    DataSet("oxfordiiitpet", "Pets", 100, 1000, 64, ("77.38", "55.76", "78.29")),
)


def rows(context: Context) -> list[Row]:
    """Return three rows of the paper's and three of ours for each data set."""
    return [row for data in SETS for row in _rows(context, data)]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing on the data sets that are at hand."""
    for data in SETS:
        mine = [r for r in rows if r.dataset == data.name]
        if not mine[0].missing:
            try_rows(NAME, mine, cases(context, TASKS, dataset=data.name))


def _rows(context: Context, data: DataSet) -> list[Row]:
    common: dict[str, Any] = {"dataset": data.name, "missing": _missing(context, data)}
    long, short, ours = data.paper

    def name(method: str, iterations: int) -> dict[str, Any]:
        title = f"{data.title}: {method.upper()}, {iterations} iterations"
        return {"name": f"{data.name}-{method}-{iterations}", "title": title}

    fit = FitConfig(batch_size=data.batch)

    def rated(method: str, iterations: int) -> dict[str, Any]:
        title = f"{data.title}: {method.upper()}, {iterations} iterations, a rate that suits it"
        missing = common["missing"] or unchosen(context, method)
        return {"name": f"{data.name}-{method}-rate-{iterations}", "title": title, **common, "missing": missing}

    return [
        ifp_row(context, data.many, batch=data.batch, paper=long, **name("ifp", data.many), **common),
        ifp_row(context, data.many, batch=data.batch, rate=suited(context, "ifp").lr, **rated("ifp", data.many)),
        ifp_row(context, data.few, batch=data.batch, paper=short, **name("ifp", data.few), **common),
        mvp_row(context, data.few, fit=fit, paper=ours, **name("mvp", data.few), **common),
        mvp_row(
            context, data.few, fit=replace(suited(context, "mvp"), batch_size=data.batch), **rated("mvp", data.few)
        ),
        mvp_row(
            context, data.few, fit=fit, vote=VoteConfig(voters="generalist"), name=f"{data.name}-generalist-{data.few}",
            title=f"{data.title}: the nearest generalists vote, {data.few} iterations", **common,
        ),
    ]  # fmt: skip


def _missing(context: Context, data: DataSet) -> str:
    """Say why a set is not at hand; sets are read from folders and never downloaded for this."""
    here = data.name in context.folders or (context.data is not None and (context.data / data.name).is_dir())
    if not here:
        return f"no folder {data.name}/ below --data; put it there, or give --folder {data.name}=DIR"
    return why_not(context, data.name)


EXPERIMENT = Experiment(NAME, "does the vote carry over to unseen data sets?", "Tables 3, 5", 50, rows, run)
