"""The learning rates of the rivals, chosen on held-out training images of tasks that no table uses."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.baselines.dlth import Dlth
from benchmarks.baselines.magnitude import Magnitude
from benchmarks.baselines.mest import Mest
from benchmarks.baselines.off_the_shelf import ARCH, OffTheShelf
from benchmarks.baselines.power import Power
from benchmarks.baselines.uvc import Uvc
from benchmarks.experiment import Context, Experiment, Form, Row
from benchmarks.experiments import meta, vit
from benchmarks.methods import IFP_LR
from benchmarks.running import cases, try_rows, why_not
from benchmarks.store import counted
from benchmarks.targets import DISTILLED, NARROW, Setting, at_random, iterative, voted
from mvp_edge.config import FitConfig, PruneSchedule

NAME = "rates"
RATES = (0.003, 0.01, 0.03, 0.1)
VIT_RATES = (2e-4, 5e-4, 1e-3, 2e-3)
IFP_RATES = (IFP_LR, 0.02, 0.05)
IFP_ITERATIONS = 1000
TASKS = 4
TASK_SEED = 4000  # neither a zoo's nor a table's
VARIANTS = {
    "reptile": "reptile", "mest": "mest", "mest-random": "mest", "dlth": "dlth", "magnitude": "magnitude",
    "magnitude-distill": "magnitude-distill", "mobilenetv2": "mobilenetv2", "uvc": "uvc", "power": "power",
    "mvp": "mvp", "random": "random", "ifp": "ifp",
}  # fmt: skip
"""What is tried at every rate, and its method; MEST with a first mask of either kind."""
SLICED = ("mvp", "random", "ifp")
RECIPES = {
    "magnitude": replace(DISTILLED, distill=0.0),
    "magnitude-distill": DISTILLED,
    "mobilenetv2": replace(DISTILLED, distill=0.0),
    "uvc": replace(vit.FIT, distill=0.1),
    "power": vit.FIT,
}
"""Rivals that are trained as the tool or the paper trains, but for the rate; UVC with its own share of distillation."""
TRANSFORMERS: dict[str, Form] = {"uvc": "sliced", "power": "tokens"}
"""Rivals on the vision transformer, and what makes their networks cheap."""


def rows(context: Context) -> list[Row]:
    """Return one row for each variant and rate."""
    missing = why_not(context, "cifar100")
    return [_row(context, name, rate, missing) for name in VARIANTS for rate in rates_of(name)]


def rates_of(variant: str) -> tuple[float, ...]:
    """Return the rates that are tried: AdamW's are lower than SGD's, and a long run is dear."""
    return VIT_RATES if variant in TRANSFORMERS else IFP_RATES if variant == "ifp" else RATES


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if why_not(context, "cifar100"):
        return
    cnn = [r for r in rows if r.method not in TRANSFORMERS]
    try_rows(NAME, cnn, cases(context, TASKS, split="held-out", seed=TASK_SEED))
    if not vit.missing(context):
        tasks = cases(context, TASKS, zoo=vit.opened(context), split="held-out", seed=TASK_SEED)
        try_rows(NAME, [r for r in rows if r.method in TRANSFORMERS], tasks)


def chosen(context: Context, method: str) -> dict[str, Any]:
    """Return the best recorded rate of a method, and where it comes from; without records the tool's or MVP's own."""
    scores = _scores(context, method)
    if not scores:
        if method == "ifp":
            return {"lr": IFP_LR, "lr_from": "the paper's"}
        own = RECIPES.get(method, FitConfig())
        return {"lr": own.lr, "lr_from": "the tool's" if own.lr == DISTILLED.lr else "MVP's"}
    _, rate = max(scores, key=lambda pair: (scores[pair], -pair[1]))
    return {"lr": rate, "lr_from": "held-out training images"}


def suited(context: Context, method: str, fit: FitConfig = FitConfig()) -> FitConfig:
    """Return how a method is trained at the rate that was best on held-out images; the paper's without records."""
    return replace(fit, lr=chosen(context, method)["lr"])


def mest(context: Context) -> Mest:
    """Return MEST with the first mask that did better on held-out images: the largest weights without records."""
    scores = _scores(context, "mest")
    best = max(scores, key=lambda pair: scores[pair])[0] if scores else "mest"
    return Mest(start="random" if best == "mest-random" else "magnitude")


def weights(context: Context) -> Path | None:
    """Return where the weights of the network off the shelf lie, if they were given."""
    return context.folders.get(ARCH)


def weights_missing(context: Context) -> str:
    """Say why the network off the shelf cannot be tried; empty if it can."""
    return "" if weights(context) else f"its ImageNet weights are not at hand; give --folder {ARCH}=FILE.safetensors"


def _scores(context: Context, method: str) -> dict[tuple[str, float], float]:
    """Return the mean accuracy of a method's variants by rate, on the tasks that all of them were tried on.

    Variants that were not tried at every rate are left out; without the first of them there is nothing.
    """
    trials = context.store.trials(NAME)
    found: dict[tuple[str, float], dict[str, float]] = {}
    for variant in (v for v, m in VARIANTS.items() if m == method):
        tried = {
            (variant, rate): {
                t["task"]: t["top1"] for t in counted(trials, _name(variant, rate)) if t["status"] == "ok"
            }
            for rate in rates_of(variant)
        }
        if all(tried.values()):
            found |= tried
        elif not found:
            return {}
    common = set.intersection(*(set(top1) for top1 in found.values()))
    return {key: statistics.mean(top1[t] for t in sorted(common)) for key, top1 in found.items()} if common else {}


def _row(context: Context, variant: str, rate: float, missing: str) -> Row:
    steps = context.steps(IFP_ITERATIONS if variant == "ifp" else 100)
    own = RECIPES.get(variant)
    config = replace(own or FitConfig(), iterations=steps, lr=rate)
    train: Callable[[Setting, FitConfig], nn.Module] = {
        "reptile": meta.reptile(context), "mest": Mest(), "mest-random": Mest(start="random"), "dlth": Dlth(),
        "magnitude": Magnitude(), "magnitude-distill": Magnitude(),
        "mobilenetv2": OffTheShelf(weights(context) or Path()), "uvc": Uvc(), "power": Power(),
        "mvp": lambda s, fit: voted(NARROW, fit)(s), "random": lambda s, fit: at_random(fit, 0.1)(s),
        "ifp": lambda s, fit: iterative(steps, fit.lr, PruneSchedule())(s),
    }[variant]  # fmt: skip
    lacks = {"reptile": meta.missing, "mobilenetv2": weights_missing, "uvc": vit.missing, "power": vit.missing}
    form: Form = TRANSFORMERS.get(variant, "sliced" if own or variant in SLICED else "masked")
    hyper = {"lr": rate, "split": "held-out"} | ({"distill": config.distill, "warmup": config.warmup} if own else {})
    return Row(
        _name(variant, rate), VARIANTS[variant], f"{variant}, rate {rate:g}", lambda s: train(s, config),
        iterations=steps, hyper=hyper, form=form, missing=missing or lacks.get(variant, lambda _: "")(context),
        base=vit.BASE if variant in TRANSFORMERS else "", zoo=variant == "mvp",
        seconds={"masked": 2.7, "tokens": 2.0}.get(form, 0.5) * steps,
    )  # fmt: skip


def _name(variant: str, rate: float) -> str:
    return f"{variant}-lr{rate:g}"


EXPERIMENT = Experiment(NAME, "which learning rate suits each rival (held-out images)?", "ours", 165, rows, run)
