"""All experiments by name, in the order in which `all` runs them: what others need comes before them."""

from __future__ import annotations

from importlib import import_module

from benchmarks.suite.experiment import Experiment

MODULES = (
    "overlap",
    "meta",
    "rates",
    "zoos",
    "memory",
    "growth",
    "curves",
    "ablations",
    "task_size",
    "unseen",
    "rivals",
    "ssl",
    "table2",
    "table1",
    "imagenet",
)
"""Modules of `benchmarks.experiments`; each has an `EXPERIMENT` or several `EXPERIMENTS`."""

SCRIPTS = {
    "targets": "accuracy of the tool's methods on target tasks",
    "names-only": "what names alone give",
    "packing": "what eight bits cost",
    "prune-time": "time of the main job",
    "zoo-speed": "speed of making members",
    "budgets": "are budgets met",
    "alignment": "what aligned counts gain",
    "edge-latency": "latency, and what bounds it",
    "precision": "INT8 and float16",
    "ahnp-scores": "which scores suit AHNP",
    "runtimes": "do other runtimes agree",
    "leep": "does cross-fitted LEEP rank as well, and what does noise score",
    "folded-norms": "can weights with folded norms be trained",
}
"""Questions with a script of their own, whose arguments are passed on; `all` leaves them out."""


def experiments() -> dict[str, Experiment]:
    """Return all experiments by name."""
    found: dict[str, Experiment] = {}
    for name in MODULES:
        module = import_module(f"benchmarks.experiments.{name}")
        for experiment in getattr(module, "EXPERIMENTS", None) or (module.EXPERIMENT,):
            found[experiment.name] = experiment
    return found
