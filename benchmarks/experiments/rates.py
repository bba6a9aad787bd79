"""The learning rates of MVP and its rivals, chosen on held-out training images of tasks that no table uses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.baselines.dlth import Dlth
from benchmarks.baselines.magnitude import Magnitude
from benchmarks.baselines.mest import Mest
from benchmarks.baselines.off_the_shelf import ARCH, OffTheShelf
from benchmarks.baselines.power import Power
from benchmarks.baselines.uvc import Uvc
from benchmarks.experiments import meta, vit
from benchmarks.methods import AHNP, DISTILLED, IFP_LR, SPECIALISTS, UNTAUGHT, at_random, iterative, scored, voted
from benchmarks.setting import Setting
from benchmarks.suite.experiment import Context, Experiment, Form, Row
from benchmarks.suite.running import cases, try_rows, why_not
from benchmarks.suite.store import counted
from mvp_edge.config import FitConfig, PruneSchedule, ScoreSchedule

NAME = "rates"
TASKS = 4
TASK_SEED = 4000  # neither a zoo's nor a table's
PAPERS = FitConfig()
Train = Callable[[Setting, FitConfig], nn.Module]


def weights(context: Context) -> Path | None:
    """Return where the weights of the network off the shelf lie, if they were given."""
    return context.folders.get(ARCH)


def weights_missing(context: Context) -> str:
    """Say why the network off the shelf cannot be tried; empty if it can."""
    return "" if weights(context) else f"its ImageNet weights are not at hand; give --folder {ARCH}=FILE.safetensors"


@dataclass(frozen=True)
class Variant:
    """What is tried at several rates.

    Attributes:
        method: As the tables name it; a method may have several variants.
        train: Returns what makes its network.
        fit: How it is trained; its rate is the one that counts until others were tried.
        whose: Where that rate comes from.
        rates: Those to try.
        form: What makes its network cheap.
        seconds: Guess of the time of an iteration.
        zoo: Whether a zoo votes.
        transformer: Whether it is for the vision transformer.
        missing: Says why it cannot be run.
        hyper: What else there is to say of it.
    """

    method: str
    train: Callable[[Context], Train]
    fit: FitConfig = PAPERS
    whose: str = "MVP's"
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    form: Form = "masked"
    seconds: float = 2.7
    zoo: bool = False
    transformer: bool = False
    missing: Callable[[Context], str] = lambda context: ""
    hyper: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, context: Context) -> dict[str, Any]:
        """Return all but the rate that decides what comes out, but for the files that it may start from."""
        train = self.train(context)
        own: Any = asdict(train) if is_dataclass(train) else {}  # pyright: ignore[reportArgumentType]
        return {k: v for k, v in own.items() if not isinstance(v, Path) and not callable(v)} | dict(self.hyper)


SLICED: dict[str, Any] = {"form": "sliced", "seconds": 0.5}
TOOLS: dict[str, Any] = {**SLICED, "whose": "the tool's"}
WHOLE: dict[str, Any] = {"rates": (0.01, 0.03, 0.1)}
"""Networks of the whole size take ten times as long, and 0.003 was the worst rate of all that were tried at it."""


def _transformer(rates: tuple[float, ...] = (2e-4, 5e-4, 1e-3), **fields: Any) -> dict[str, Any]:
    return {"transformer": True, "missing": vit.missing, "rates": rates, "seconds": 2.5, **fields}


VOTE = {"voters": SPECIALISTS.voters, "vote": SPECIALISTS.vote, "neighbours": SPECIALISTS.neighbours}
VARIANTS = {
    "mvp": Variant("mvp", lambda _: lambda s, fit: voted(SPECIALISTS, fit)(s), zoo=True, hyper=VOTE,
                   rates=(0.003, 0.01, 0.03, 0.1, 0.3), **SLICED),
    "random": Variant("random", lambda _: lambda s, fit: at_random(fit)(s), **SLICED),
    "ifp": Variant("ifp", lambda _: lambda s, fit: iterative(fit.iterations, fit.lr)(s), whose="the paper's",
                   fit=replace(PAPERS, iterations=1000, lr=IFP_LR), rates=(IFP_LR, 0.02, 0.05, 0.1),
                   hyper={"schedule": asdict(PruneSchedule())}, **SLICED),
    "reptile": Variant("reptile", meta.reptile, missing=meta.missing, hyper=meta.HYPER, **WHOLE),
    "mest": Variant("mest", lambda _: Mest(), **WHOLE),
    "mest-random": Variant("mest", lambda _: Mest(start="random"), **WHOLE),
    "dlth": Variant("dlth", lambda _: Dlth(), **WHOLE),
    "magnitude": Variant("magnitude", lambda _: Magnitude(), UNTAUGHT, **TOOLS),
    "magnitude-distill": Variant("magnitude-distill", lambda _: Magnitude(), DISTILLED, **TOOLS),
    "mobilenetv2": Variant("mobilenetv2", lambda context: OffTheShelf(weights(context) or Path()), UNTAUGHT,
                           missing=weights_missing, **TOOLS),
    "mvp-vit": Variant("mvp-vit", lambda _: lambda s, fit: voted(SPECIALISTS, fit)(s), vit.FIT, zoo=True,
                       hyper={"optimizer": vit.FIT.optimizer, **VOTE}, **_transformer(**SLICED)),
    "random-vit": Variant("random-vit", lambda _: lambda s, fit: at_random(fit)(s), vit.FIT,
                          hyper={"optimizer": vit.FIT.optimizer}, **_transformer((2e-4, 5e-4, 1e-3, 2e-3), **SLICED)),
    "ahnp": Variant("ahnp", lambda _: lambda s, fit: scored(fit)(s), AHNP, whose="the paper's",
                    hyper={"scores": asdict(ScoreSchedule())}, **_transformer((AHNP.lr, 2e-4, 5e-4, 1e-3), **SLICED)),
    "uvc": Variant("uvc", lambda _: Uvc(keep=0.133), replace(vit.FIT, distill=0.1),
                   hyper={"head": "ridge", "teacher": "base"}, **_transformer(form="sliced")),
    "power": Variant("power", lambda _: Power(keep=0.107), vit.FIT, hyper={"head": "ridge"},
                     **_transformer(form="tokens")),
}  # fmt: skip
"""MEST's first mask is of either kind. UVC distils by its own share; it and PoWER keep of the FLOPs and of the tokens
what costs as much as the tenth of heads and nodes that the others keep."""


def rows(context: Context) -> list[Row]:
    """Return one row for each variant and rate."""
    missing = why_not(context, "cifar100")
    return [_row(context, name, rate, missing) for name, variant in VARIANTS.items() for rate in variant.rates]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if why_not(context, "cifar100"):
        return
    theirs = {v.method for v in VARIANTS.values() if v.transformer}
    held_out: dict[str, Any] = {"split": "held-out", "seed": TASK_SEED}
    try_rows(NAME, [r for r in rows if r.method not in theirs], cases(context, TASKS, **held_out))
    if not vit.missing(context):
        tasks = cases(context, TASKS, zoo=vit.opened(context), **held_out)
        try_rows(NAME, [r for r in rows if r.method in theirs], tasks)


def chosen(context: Context, method: str) -> dict[str, Any]:
    """Return the best recorded rate of a method, and where it comes from; without records the tool's or a paper's."""
    scores = _scores(context, method)
    if not scores:
        return {"lr": VARIANTS[method].fit.lr, "lr_from": VARIANTS[method].whose}
    _, rate = max(scores, key=lambda pair: (scores[pair], -pair[1]))
    return {"lr": rate, "lr_from": "held-out training images"}


def suited(context: Context, method: str) -> FitConfig:
    """Return how a method is trained, at the rate that was best on held-out images."""
    return replace(VARIANTS[method].fit, lr=chosen(context, method)["lr"])


def unchosen(context: Context, method: str) -> str:
    """Say that no rate suits a method yet; empty if one was chosen on held-out images."""
    return "" if _scores(context, method) else f"no rate was chosen yet; run: python -m benchmarks {NAME}"


def rival_row(
    context: Context, method: str, title: str, train: Train, hyper: Mapping[str, Any], *, name: str = "", **fields: Any
) -> Row:  # fmt: skip
    """Return a rival as a row: 100 iterations on the target task, at the rate that suits it."""
    variant, fit = VARIANTS[method], replace(suited(context, method), iterations=context.steps(100))
    fields = {"form": variant.form, "seconds": variant.seconds * fit.iterations, **fields}
    return Row(
        name or f"{method}-100", method, title, lambda s: train(s, fit), iterations=fit.iterations,
        batch=fit.batch_size, hyper={**chosen(context, method), **hyper}, **fields,
    )  # fmt: skip


def mest(context: Context) -> Mest:
    """Return MEST with the first mask that did better on held-out images: the largest weights without records."""
    scores = _scores(context, "mest")
    best = max(scores, key=lambda pair: scores[pair])[0] if scores else "mest"
    return Mest(start="random" if best == "mest-random" else "magnitude")


def _scores(context: Context, method: str) -> dict[tuple[str, float], float]:
    """Return the mean accuracy of a method's variants by rate, on the tasks that all of them were tried on.

    Variants that were not tried at every rate are left out; without the first of them there is nothing.
    """
    trials = context.store.trials(NAME)
    found: dict[tuple[str, float], dict[str, float]] = {}
    for name, variant in VARIANTS.items():
        if variant.method == method:
            tried = {(name, rate): _by_task(trials, _name(name, rate)) for rate in variant.rates}
            if all(tried.values()):
                found |= tried
            elif not found:
                return {}
    common = set.intersection(*map(set, found.values()))
    return {key: statistics.mean(top1[t] for t in sorted(common)) for key, top1 in found.items()} if common else {}


def _by_task(trials: Sequence[dict[str, Any]], row: str) -> dict[str, float]:
    return {t["task"]: t["top1"] for t in counted(trials, row) if t["status"] == "ok"}


def _row(context: Context, name: str, rate: float, missing: str) -> Row:
    variant = VARIANTS[name]
    steps = context.steps(variant.fit.iterations)
    config = replace(variant.fit, iterations=steps, lr=rate)
    train = variant.train(context)
    is_papers = replace(variant.fit, iterations=PAPERS.iterations, lr=PAPERS.lr) == PAPERS
    recipe = {} if is_papers else {"distill": config.distill, "warmup": config.warmup}
    return Row(
        _name(name, rate), variant.method, f"{name}, rate {rate:g}", lambda s: train(s, config), iterations=steps,
        hyper={"lr": rate, "split": "held-out", **recipe, **variant.settings(context)},
        form=variant.form, zoo=variant.zoo,
        missing=missing or variant.missing(context), base=vit.BASE if variant.transformer else "",
        seconds=variant.seconds * steps,
    )  # fmt: skip


def _name(variant: str, rate: float) -> str:
    return f"{variant}-lr{rate:g}"


EXPERIMENT = Experiment(
    NAME, "which learning rate suits MVP and each rival (held-out images)?", "ours", 220, rows, run
)  # fmt: skip
