"""The experiments: what the papers show, and what each of our choices is worth."""

from __future__ import annotations

from benchmarks.experiments import ablations, baselines, figures, made, papers, rates
from benchmarks.suite import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        rates.EXPERIMENT, *made.EXPERIMENTS, *figures.EXPERIMENTS, ablations.EXPERIMENT, baselines.EXPERIMENT,
        *papers.EXPERIMENTS,
    )
}  # fmt: skip
"""By name, in the order in which `all` runs them: what others need comes before them."""
