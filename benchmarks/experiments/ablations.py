"""What each choice is worth: voters, distillation, the vote, zoo size, channel multiples, similarity.

Rows about how a voted network starts (weights, norms, head) are settled: they have records but no code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.experiments.figures import all_ranked
from benchmarks.methods import (
    ANY,
    DISTILLED,
    EQUATION_1,
    GENERALIST,
    SPECIALISTS,
    TOOL,
    Members,
    specialists,
    voted,
)  # fmt: skip
from benchmarks.rows import mvp_row
from benchmarks.setting import Setting
from benchmarks.suite import Context, Experiment, Row
from mvp_edge.config import FitConfig
from mvp_edge.core.streams import rng
from mvp_edge.voting.neighbours import Neighbour

ZOO_SIZES = (10, 20, 40)


def rows(context: Context) -> list[Row]:
    """Return one row for each choice; the first is what all others differ from in one thing."""
    fit = FitConfig(iterations=context.steps(100))
    count = sum(i.kind == "specialist" for i in context.zoo.infos())

    def mvp(name: str, title: str, **fields: Any) -> Row:
        return mvp_row(context, fields.pop("iterations", 100), name=name, title=title, count=10, **fields)

    return [
        mvp("specialist", "specialists vote: top votes, their mean weights, ridge head"),
        mvp("generalist-0", "a generalist, as it is", vote=GENERALIST, iterations=0),
        mvp("generalist", "a generalist, fine-tuned", vote=GENERALIST),
        mvp("generalist-rate", "a generalist, fine-tuned at the tool's learning rate", vote=GENERALIST, fit=TOOL),
        mvp("generalist-taught-by-base", "a generalist, distilled from the base at the tool's learning rate",
            vote=GENERALIST, fit=DISTILLED),
        mvp("any", "specialists and generalists vote", vote=ANY),
        *(mvp(f"tau-{tau:g}", f"votes sampled, tau {tau:g}", vote=replace(EQUATION_1, temperature=tau))
          for tau in (0.25, 0.5, 1.0, 2.0)),
        *(mvp(f"zoo-{n}", f"a zoo of {n} specialists", run=voted(SPECIALISTS, fit, _some(n)), hyper={"size": n})
          for n in (*(n for n in ZOO_SIZES if n < count), count)),
        *(mvp(f"align-{n}", f"counts in multiples of {n} channels", vote=replace(SPECIALISTS, channel_multiple=n),
              hyper={"align": n})
          for n in (1, 4, 16)),
        mvp("wordnet", "neighbours by the class names alone", run=voted(SPECIALISTS, fit, _by_names),
            hyper={"similarity": "wordnet"}),
    ]  # fmt: skip


def _some(count: int) -> Members:
    """Return the nearest of `count` members drawn from the zoo, the same for every task and nested."""

    def members(s: Setting) -> list[Neighbour]:
        order = rng(0, "zoo size").permutation(sorted(i.id for i in s.zoo.infos() if i.kind == "specialist"))
        allowed = set(order[:count])
        return [n for n in specialists(s) if n.info.id in allowed][: SPECIALISTS.neighbours]

    return members


def _by_names(s: Setting) -> list[Neighbour]:
    return all_ranked(s, "wordnet")[: SPECIALISTS.neighbours]


EXPERIMENT = Experiment("ablations", "what is each choice of ours worth?", "ours", rows)
