"""The papers' tables: Tables 1 to 5 of Meta-Vote Pruning, its ImageNet protocol, and the second paper's budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.baselines.masked import Dlth, Mest
from benchmarks.baselines.reptile import Reptile
from benchmarks.experiments.made import META_HYPER, meta_file
from benchmarks.experiments.rates import VARIANTS, baseline_row, decided, mest, suited
from benchmarks.methods import (
    EQUATION_1,
    GENERALIST,
    SPECIALISTS,
    VIT,
    VIT_PAPER,
    Method,
    headed,
    sized,
    specialists,
    tuned,
)
from benchmarks.rows import ahnp_row, ifp_row, mvp_row, random_row
from benchmarks.setting import Setting
from benchmarks.suite import Context, Experiment, NotApplicableError, Row
from mvp_edge.budget.costs import costs_of
from mvp_edge.config import Budget, FitConfig
from mvp_edge.core.errors import BudgetError
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.pruners import base_importance, target_counts, top_plan
from mvp_edge.voting.meta_vote import assemble, vote

SAMPLED = "MVP, votes sampled as in Equation 1, 100 iterations"
TUNED = "tuned learning rate"

# Table 1: ResNet-18 and CIFAR-100, keep 0.1, the same target tasks for all. MVP's own row is split in two, as its vote
# is a setting here.

MEST_OVERHEAD = 1.1  # the paper counts 0.47 for MEST where 0.43 is 100 iterations at keep 0.1
SPARSER = Mest(keep=0.01, extra=(0.002, 0.001, 0.0))
"""As many weights as a tenth of the filters leaves, which is what the paper's nominal cost stands for."""


def table1(context: Context) -> list[Row]:
    """Return the rows of Table 1, in the paper's order."""
    mvp = suited(context, "mvp")
    ssl: dict[str, Any] = {"zoo": "ssl"}

    def masked(method: str, title: str, train: Any, share: float, hyper: dict[str, Any], **fields: Any) -> Row:
        """Return a network of the whole size with zeros in it, nominally at a `share` of its cost."""
        return baseline_row(context, method, f"{title}, 100 iterations", train, {**hyper, "head": "ridge"},
                            dense_iterations=share * context.steps(100), **fields)  # fmt: skip

    return [
        ifp_row(context, 1000, paper="87.99"),
        ifp_row(context, 1000, name="ifp-rate-1000", title=f"IFP, 1000 iterations, {TUNED}",
                rate=suited(context, "ifp").lr),
        ifp_row(context, 1000, name="ifp-ssl-1000", method="ifp-ssl", title="IFP-SSL, 1000 iterations", paper="85.22",
                **ssl),
        random_row(context, 100, paper="33.12"),
        random_row(context, 100, name="random-rate-100", title=f"random units, 100 iterations, {TUNED}",
                   fit=suited(context, "random")),
        masked("reptile", "IHT-Reptile", Reptile(lambda s: meta_file(context)), 0.1**2, META_HYPER, paper="75.23"),
        masked("mest", "MEST", mest(context), 0.1**2 * MEST_OVERHEAD, {"variant": "EM", **asdict(mest(context))},
               paper="76.28"),
        masked("mest", "MEST, a hundredth of the weights", SPARSER, 0.1**2 * MEST_OVERHEAD,
               {"variant": "EM", **asdict(SPARSER)}, name="mest-hundredth-100", keep=SPARSER.keep),
        masked("dlth", "DLTH", Dlth(), 0.1, asdict(Dlth()), paper="74.46"),
        mvp_row(context, 100, title="MVP, top votes, 100 iterations"),
        mvp_row(context, 100, name="mvp-sample-100", title=SAMPLED, vote=EQUATION_1, paper="88.98"),
        mvp_row(context, 100, name="mvp-rate-100", title=f"MVP, top votes, 100 iterations, {TUNED}", fit=mvp),
        mvp_row(context, 100, name="mvp-sample-rate-100", vote=EQUATION_1, fit=mvp,
                title=f"MVP, votes sampled, 100 iterations, {TUNED}"),
        mvp_row(context, 100, name="mvp-ssl-100", method="mvp-ssl", title="MVP-SSL, 100 iterations", paper="86.82",
                **ssl),
        mvp_row(context, 100, name="mvp-ssl-rate-100", method="mvp-ssl", fit=mvp,
                title="MVP-SSL, 100 iterations, MVP's tuned learning rate", **ssl),
    ]  # fmt: skip


# Table 2: a vision transformer.


def table2(context: Context) -> list[Row]:
    """Return the rows of Table 2, in the paper's order; last a generalist, as the tool's default is."""
    common: dict[str, Any] = {"zoo": "vit", "count": 5}

    def baseline(method: str, title: str, **fields: Any) -> Row:
        """Return a baseline; its nominal cost is that of its bound over all iterations, as the paper's figures are."""
        fit, settings = suited(context, method), VARIANTS[method].settings(context)
        hyper = {**settings, "optimizer": fit.optimizer, "distill": fit.distill}
        return baseline_row(context, method, f"{title}, 100 iterations", VARIANTS[method].train(context), hyper,
                            dense_iterations=settings["keep"] * context.steps(100), **common, **fields)  # fmt: skip

    return [
        ahnp_row(context, 1000, paper="89.48", **common),
        ahnp_row(context, 1000, name="ahnp-rate-1000", title=f"AHNP, 1000 iterations, {TUNED}",
                 rate=suited(context, "ahnp").lr, **common),
        ahnp_row(context, 100, **common),
        random_row(context, 100, fit=VIT_PAPER, paper="58.71", **common),
        random_row(context, 100, name="random-rate-100", title=f"random units, 100 iterations, {TUNED}",
                   fit=suited(context, "random-vit"), **common),
        baseline("uvc", "UVC", paper="80.30"),
        baseline("power", "PoWER", paper="77.76"),
        mvp_row(context, 100, fit=VIT_PAPER, title="MVP, top votes, 100 iterations", **common),
        mvp_row(context, 100, name="mvp-rate-100", title=f"MVP, top votes, 100 iterations, {TUNED}",
                fit=suited(context, "mvp-vit"), **common),
        mvp_row(context, 100, fit=VIT_PAPER, vote=EQUATION_1, name="mvp-sample-100", paper="89.23", title=SAMPLED,
                **common),
        mvp_row(context, 0, fit=replace(VIT, iterations=0), vote=GENERALIST, name="generalist-0",
                title="ours: a generalist, as it is", **common),
        mvp_row(context, 100, fit=VIT, vote=GENERALIST, name="generalist-100",
                title="ours, the default: a generalist, 100 iterations", **common),
    ]  # fmt: skip


# Tables 3 and 5: data sets that the zoo has never seen; its base and members know CIFAR-100 only. Images are brought to
# the size that the base takes, 32 pixels, where the paper's ResNet-50 and DeiT take 224: this asks whether the vote
# carries over, not how good a small classifier of flowers can be.


@dataclass(frozen=True)
class DataSet:
    """One half of a table.

    Attributes:
        name: Folder.
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


def unseen(context: Context) -> list[Row]:
    """Return rows of the paper and of ours for each data set."""
    return [row for data in SETS for row in _unseen(context, data)]


def _unseen(context: Context, data: DataSet) -> list[Row]:
    fit, tuned_fit = FitConfig(batch_size=data.batch), replace(suited(context, "mvp"), batch_size=data.batch)
    long, short, ours = data.paper

    def about(method: str, iterations: int, what: str = "", **fields: Any) -> dict[str, Any]:
        title = f"{data.title}: {method.upper()}, {iterations} iterations"
        return {"name": f"{data.name}-{method}{'-rate' if what else ''}-{iterations}", "title": title + what,
                "dataset": data.name, "count": 10, **fields}  # fmt: skip

    rate, tuned_title = suited(context, "ifp").lr, f", {TUNED}"
    generalists = {"name": f"{data.name}-generalist-{data.few}", "title":
                   f"{data.title}: the nearest generalists vote, {data.few} iterations"}  # fmt: skip
    return [
        ifp_row(context, data.many, batch=data.batch, **about("ifp", data.many, paper=long)),
        ifp_row(context, data.many, batch=data.batch, rate=rate, **about("ifp", data.many, tuned_title)),
        ifp_row(context, data.few, batch=data.batch, **about("ifp", data.few, paper=short)),
        mvp_row(context, data.few, fit=fit, **about("mvp", data.few, paper=ours)),
        mvp_row(context, data.few, fit=tuned_fit, **about("mvp", data.few, tuned_title)),
        mvp_row(context, data.few, fit=fit, vote=GENERALIST, **about("mvp", data.few, **generalists)),
    ]


# Table 4: tasks of three and of ten classes, each with a zoo of its own.

SIZES = {"10-way": (10, 0.15, 190, 1500, "84.29", "83.53"), "3-way": (3, 0.05, 60, 500, "88.75", "89.25")}
"""Classes, keep, iterations of MVP, iterations of IFP, and the paper's figures for IFP and MVP."""


def task_size(context: Context) -> list[Row]:
    """Return IFP's long and short runs and MVP's short ones for each size."""
    found = []
    for size, (ways, keep, few, many, ifp, mvp) in SIZES.items():

        def about(method: str, steps: int, rated: bool = False, size=size, keep=keep, ways=ways) -> dict[str, Any]:
            title = f"{size}, keep {keep:g}: {method.upper()}, {steps} iterations"
            return {"name": f"{size}-{method}{'-rate' * rated}-{steps}", "title": title + f", {TUNED}" * rated,
                    "ways": ways, "count": 5, **({"zoo": size} if method == "mvp" else {})}  # fmt: skip

        vote = replace(SPECIALISTS, keep=keep)
        found += [
            ifp_row(context, many, keep=keep, paper=ifp, **about("ifp", many)),
            ifp_row(context, many, keep=keep, rate=suited(context, "ifp").lr, **about("ifp", many, True)),
            ifp_row(context, few, keep=keep, **about("ifp", few)),
            mvp_row(context, few, vote=vote, paper=mvp, **about("mvp", few)),
            mvp_row(context, few, vote=vote, fit=suited(context, "mvp"), **about("mvp", few, True)),
        ]
    return found


# The paper's ImageNet protocol, for whoever has the images and the hours; nothing of it has been run here.
#
#     mvp-edge zoo build ZOO --base timm:resnet50 --data IMAGENET --members 1000 --iterations 1000 --lr 0.005
#     python -m benchmarks imagenet --folder imagenet=IMAGENET --folder resnet50-zoo=ZOO [--folder deit-zoo=ZOO2]

PROTOCOLS: tuple[tuple[str, str, Callable[..., Row], str, FitConfig, tuple[str, str, str]], ...] = (
    ("resnet50-zoo", "ResNet-50", ifp_row, "IFP", FitConfig(), ("91.16", "22.42", "91.80")),
    ("deit-zoo", "DeiT-small", ahnp_row, "AHNP", VIT_PAPER, ("89.48", "58.71", "89.23")),
)
"""A zoo, its base, what prunes it, how it is fine-tuned; the paper's long run, random pruning and MVP."""


def imagenet(context: Context) -> list[Row]:
    """Return the long run, random pruning and MVP for each base."""
    found = []
    for zoo, title, pruner, method, fit, (long, lower, ours) in PROTOCOLS:
        common: dict[str, Any] = {"dataset": "imagenet", "zoo": zoo, "count": 100}
        found += [
            pruner(context, 1000, name=f"{zoo}-{method.lower()}", title=f"{title}: {method}, 1000 iterations",
                   paper=long, **common),
            random_row(context, 100, fit=fit, name=f"{zoo}-random", title=f"{title}: random units, 100 iterations",
                       paper=lower, **common),
            mvp_row(context, 100, fit=fit, vote=EQUATION_1, name=f"{zoo}-mvp", title=f"{title}: MVP, 100 iterations",
                    paper=ours, **common),
        ]  # fmt: skip
    return found


# The second paper's question: one-shot pruning by scores of similar tasks' members, at several memory budgets. Its
# formulas have not been found; `smsp` is our reading (similarity-weighted fraction of the neighbours that keep a unit,
# one round over all groups). A budget is the number of parameters that the counts of a keep ratio give.

MULTIPLE = 8
SMSP = replace(SPECIALISTS, method="smsp")


def memory(context: Context) -> list[Row]:
    """Return the four methods at every budget."""
    steps, found = context.steps(100), []
    fit = FitConfig(iterations=steps)
    for keep in (0.05, 0.1, 0.2):
        size = _budget(context.prunable, keep)
        label, hyper = f"{size / 1000:.0f} k parameters", {"params": size}
        found += [
            mvp_row(context, 100, name=f"smsp-{keep:g}", method="smsp", title=f"{label}: SMSP-style (ours)",
                    vote=replace(SMSP, keep=keep), run=_smsp(keep, size, fit), hyper=hyper),
            mvp_row(context, 100, name=f"mvp-{keep:g}", title=f"{label}: MVP", vote=replace(SPECIALISTS, keep=keep),
                    hyper=hyper),
            Row(f"magnitude-{keep:g}", "magnitude", f"{label}: largest norm scales of the base", _magnitude(keep, fit),
                iterations=steps, keep=keep, dense_iterations=steps * keep**2, count=10,
                hyper={"lr": fit.lr, "head": "ridge", **hyper}),
            random_row(context, 100, keep=keep, name=f"random-{keep:g}", title=f"{label}: random units", count=10),
        ]  # fmt: skip
    return found


def _smsp(keep: float, size: int, fit: FitConfig) -> Method:
    """Return one round over all groups together: the highest scores, in whole multiples, as far as the budget goes."""
    config = replace(SMSP, keep=keep)

    def run(s: Setting):
        found = specialists(s)[: SMSP.neighbours]
        try:
            counts = sized(s, config, Budget(params=size), found).counts
        except BudgetError as e:
            raise NotApplicableError(str(e)) from e
        plan, voters = vote(s.zoo, s.prunable, found, config, counts, s.seed)
        return tuned(s, assemble(s.prunable, plan, voters, s.task, s.train, device=s.device), fit)

    return run


def _magnitude(keep: float, fit: FitConfig) -> Method:
    def run(s: Setting):
        model, table = s.prunable.model, s.prunable.table
        plan = top_plan(table, base_importance(model, table), target_counts(table, keep, MULTIPLE))
        return tuned(s, headed(s, sliced_copy(model, table, plan)), fit)

    return run


def _budget(prunable: PrunableModel, keep: float) -> int:
    """Return the parameters of a five-class network with the counts that MVP keeps."""
    costs = costs_of(prunable.model, prunable.table, prunable.base.input_size, prunable.head, 5)
    return int(costs.params(costs.counts(target_counts(prunable.table, keep, MULTIPLE))))


EXPERIMENTS = (
    Experiment(
        "table1", "is MVP(100) as good as IFP(1000)? and the baselines?", "Table 1", lambda c: decided(c, table1(c))
    ),
    Experiment("table2", "does it hold for vision transformers?", "Table 2", lambda c: decided(c, table2(c))),
    Experiment(
        "unseen", "does the vote carry over to unseen data sets?", "Tables 3, 5", lambda c: decided(c, unseen(c))
    ),
    Experiment(
        "task-size", "does it hold for smaller and larger tasks?", "Table 4", lambda c: decided(c, task_size(c))
    ),
    Experiment("memory", "one-shot pruning by scores, at memory budgets", "2nd paper", memory),
    Experiment("imagenet", "the paper's ImageNet protocol, on your images", "Tables 1, 2", imagenet),
)
