"""The learning rates of MVP and the baselines, chosen on held-out training images of tasks that no table uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from benchmarks.baselines.magnitude import Magnitude
from benchmarks.baselines.masked import Dlth, Mest
from benchmarks.baselines.off_the_shelf import ARCH, OffTheShelf
from benchmarks.baselines.power import Power
from benchmarks.baselines.reptile import Reptile
from benchmarks.baselines.uvc import Uvc
from benchmarks.experiments.made import META_HYPER, meta_file
from benchmarks.methods import (
    AHNP,
    DISTILLED,
    IFP_LR,
    PAPER,
    SPECIALISTS,
    TOOL,
    VIT_PAPER,
    at_random,
    iterative,
    scored,
    voted,
)  # fmt: skip
from benchmarks.setting import Setting
from benchmarks.suite import Context, Experiment, Form, Row
from benchmarks.tables import Frame
from benchmarks.trials import top1_by_task
from mvp_edge.config import FitConfig, PruneSchedule, ScoreSchedule
from mvp_edge.core.errors import ConfigError

NAME = "rates"
TASK_SEED = 4000  # neither a zoo's nor a table's
Train = Callable[[Setting, FitConfig], nn.Module]


def weights(context: Context) -> Path:
    """Return where the weights of the network off the shelf lie.

    Raises:
        ConfigError: they were not given.
    """
    if ARCH not in context.folders:
        raise ConfigError(f"its ImageNet weights are not at hand; give --folder {ARCH}=FILE.safetensors")
    return context.folders[ARCH]


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
        votes: Whether a zoo votes.
        zoo: Name of the zoo.
        hyper: What else there is to say of it.
    """

    method: str
    train: Callable[[Context], Train]
    fit: FitConfig = PAPER
    whose: str = "MVP's"
    rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1)
    form: Form = "sliced"
    votes: bool = False
    zoo: str = ""
    hyper: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, context: Context) -> dict[str, Any]:
        """Return all but the rate that decides what comes out, but for the files that it may start from."""
        train = self.train(context)
        own: Any = asdict(train) if is_dataclass(train) else {}  # pyright: ignore[reportArgumentType]
        return {k: v for k, v in own.items() if not isinstance(v, Path) and not callable(v)} | dict(self.hyper)


TOOLS: dict[str, Any] = {"whose": "the tool's"}
MASKED: dict[str, Any] = {"form": "masked", "rates": (0.01, 0.03, 0.1)}
"""Networks of the whole size take ten times as long, and 0.003 was the worst rate of all that were tried at it."""
VIT_RATES = (2e-4, 5e-4, 1e-3)
VOTE = {"voters": SPECIALISTS.voters, "vote": SPECIALISTS.vote, "neighbours": SPECIALISTS.neighbours}
ADAMW = {"optimizer": VIT_PAPER.optimizer}
VARIANTS = {
    "mvp": Variant("mvp", lambda _: lambda s, fit: voted(SPECIALISTS, fit)(s), votes=True, hyper=VOTE,
                   rates=(0.003, 0.01, 0.03, 0.1, 0.3)),
    "random": Variant("random", lambda _: lambda s, fit: at_random(fit)(s)),
    "ifp": Variant("ifp", lambda _: lambda s, fit: iterative(fit.iterations, fit.lr)(s), whose="the paper's",
                   fit=replace(PAPER, iterations=1000, lr=IFP_LR), rates=(IFP_LR, 0.02, 0.05, 0.1),
                   hyper={"schedule": asdict(PruneSchedule())}),
    "reptile": Variant("reptile", lambda context: Reptile(lambda s: meta_file(context)), hyper=META_HYPER, **MASKED),
    "mest": Variant("mest", lambda _: Mest(), **MASKED),
    "mest-random": Variant("mest", lambda _: Mest(start="random"), **MASKED),
    "dlth": Variant("dlth", lambda _: Dlth(), **MASKED),
    "magnitude": Variant("magnitude", lambda _: Magnitude(), TOOL, **TOOLS),
    "magnitude-distill": Variant("magnitude-distill", lambda _: Magnitude(), DISTILLED, **TOOLS),
    "mobilenetv2": Variant("mobilenetv2", lambda context: OffTheShelf(lambda: weights(context)), TOOL, **TOOLS),
    "mvp-vit": Variant("mvp-vit", lambda _: lambda s, fit: voted(SPECIALISTS, fit)(s), VIT_PAPER, rates=VIT_RATES,
                       votes=True, zoo="vit", hyper={**ADAMW, **VOTE}),
    "random-vit": Variant("random-vit", lambda _: lambda s, fit: at_random(fit)(s), VIT_PAPER, zoo="vit",
                          rates=(*VIT_RATES, 2e-3), hyper=ADAMW),
    "ahnp": Variant("ahnp", lambda _: lambda s, fit: scored(fit)(s), AHNP, whose="the paper's", zoo="vit",
                    rates=(AHNP.lr, *VIT_RATES), hyper={"scores": asdict(ScoreSchedule())}),
    "uvc": Variant("uvc", lambda _: Uvc(keep=0.133), replace(VIT_PAPER, distill=0.1), rates=VIT_RATES, zoo="vit",
                   hyper={"head": "ridge", "teacher": "base"}),
    "power": Variant("power", lambda _: Power(keep=0.107), VIT_PAPER, rates=VIT_RATES, zoo="vit", form="tokens",
                     hyper={"head": "ridge"}),
}  # fmt: skip
"""MEST's first mask is of either kind. UVC distils by its own share; it and PoWER keep of the FLOPs and of the tokens
what costs as much as the tenth of heads and nodes that the others keep."""


def rows(context: Context) -> list[Row]:
    """Return one row for each variant and rate."""
    return [_row(context, name, rate) for name, variant in VARIANTS.items() for rate in variant.rates]


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


def decided(context: Context, rows: Sequence[Row]) -> list[Row]:
    """Return rows without those at a tuned rate whose rate nobody has tuned yet, or whose rate is the usual one."""

    def method(row: Row) -> str:
        name = row.method.removesuffix("-ssl")
        return f"{name}-vit" if row.zoo == "vit" and f"{name}-vit" in VARIANTS else name

    def is_known(name: str) -> bool:
        return bool(_scores(context, name)) and suited(context, name).lr != VARIANTS[name].fit.lr

    return [r for r in rows if "-rate-" not in r.name or is_known(method(r))]


def mest(context: Context) -> Mest:
    """Return MEST with the first mask that did better on held-out images: the largest weights without records."""
    scores = _scores(context, "mest")
    best = max(scores, key=lambda pair: scores[pair])[0] if scores else "mest"
    return Mest(start="random" if best == "mest-random" else "magnitude")


def baseline_row(
    context: Context, method: str, title: str, train: Train, hyper: Mapping[str, Any], **fields: Any
) -> Row:
    """Return a baseline as a row: 100 iterations on the target task, at its tuned rate."""
    variant, fit = VARIANTS[method], replace(suited(context, method), iterations=context.steps(100))
    return Row(**{
        "name": f"{method}-100", "method": method, "title": title, "run": lambda s: train(s, fit),
        "iterations": fit.iterations, "batch": fit.batch_size, "hyper": {**chosen(context, method), **hyper},
        "form": variant.form, "zoo": variant.zoo, **fields,
    })  # fmt: skip


def _scores(context: Context, method: str) -> dict[tuple[str, float], float]:
    """Return the mean accuracy of a method's variants by rate, on the tasks that all of them were tried on.

    Variants that were not tried at every rate are left out; without the first of them there is nothing.
    """
    trials, found = context.trials(NAME), {}
    for name, variant in VARIANTS.items():
        if variant.method == method:
            tried = {(name, rate): top1_by_task(trials, f"{name}-lr{rate:g}") for rate in variant.rates}
            if all(tried.values()):
                found |= tried
            elif not found:
                return {}
    top1: Frame = pd.DataFrame(found).dropna()
    return top1.mean().dropna().to_dict()


def _row(context: Context, name: str, rate: float) -> Row:
    variant = VARIANTS[name]
    config = replace(variant.fit, iterations=context.steps(variant.fit.iterations), lr=rate)
    train = variant.train(context)
    is_papers = replace(variant.fit, iterations=PAPER.iterations, lr=PAPER.lr) == PAPER
    recipe = {} if is_papers else {"distill": config.distill, "warmup": config.warmup}
    return Row(
        f"{name}-lr{rate:g}", variant.method, f"{name}, rate {rate:g}", lambda s: train(s, config),
        iterations=config.iterations, form=variant.form, votes=variant.votes, zoo=variant.zoo, split="held-out",
        task_seed=TASK_SEED, count=4,
        hyper={"lr": rate, "split": "held-out", **recipe, **variant.settings(context)},
    )  # fmt: skip


EXPERIMENT = Experiment(NAME, "which learning rate suits MVP and each baseline (held-out images)?", "ours", rows)
