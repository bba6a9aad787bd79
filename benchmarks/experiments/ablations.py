"""What each choice is worth: voters, distillation, the vote, weights, head, norms, zoo size, channel multiples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.experiments.figures import all_ranked
from benchmarks.methods import (
    ANY,
    DISTILLED,
    EQUATION_1,
    GENERALIST,
    SPECIALISTS,
    TOOL,
    Members,
    Method,
    specialists,
    tuned,
    voted,
)  # fmt: skip
from benchmarks.rows import mvp_row
from benchmarks.setting import Setting
from benchmarks.suite import Context, Experiment, NotApplicableError, Row
from mvp_edge.config import FitConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.heads import random_head, ridge_head, shared_rows
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.names.tasks import canonical
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import reestimate_norms
from mvp_edge.voting.meta_vote import average, vote
from mvp_edge.voting.neighbours import Neighbour
from mvp_edge.zoo.member import Member

ZOO_SIZES = (10, 20, 40)


@dataclass(frozen=True)
class Start:
    """How a voted network starts.

    Attributes:
        weights: The voters' mean, or the base's own.
        norms: Whether norm statistics are measured anew on the task's images.
        head: In closed form, at random, or the mean of the voters' rows for classes they share, the rest at random.
    """

    weights: Literal["mean", "base"] = "mean"
    norms: bool = True
    head: Literal["ridge", "random", "rows"] = "ridge"


def rows(context: Context) -> list[Row]:
    """Return one row for each choice; the first is what all others differ from in one thing."""
    fit = FitConfig(iterations=context.steps(100))
    count = sum(i.kind == "specialist" for i in context.zoo.infos())

    def mvp(name: str, title: str, **fields: Any) -> Row:
        return mvp_row(context, fields.pop("iterations", 100), name=name, title=title, count=10, **fields)

    def started(name: str, title: str, start: Start) -> Row:
        return mvp(name, title, run=_from(start, fit), hyper={"start": vars(start)})

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
        started("base-weights", "the base's weights instead of the voters' mean", Start(weights="base")),
        started("norms-kept", "norm statistics not measured anew", Start(norms=False)),
        started("head-random", "random head", Start(head="random")),
        started("head-rows", "the voters' rows as head", Start(head="rows")),
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


def _from(start: Start, fit: FitConfig) -> Method:
    def run(s: Setting) -> nn.Module:
        counts = target_counts(s.prunable.table, SPECIALISTS.keep, SPECIALISTS.channel_multiple)
        plan, voters = vote(s.zoo, s.prunable, specialists(s)[: SPECIALISTS.neighbours], SPECIALISTS, counts, s.seed)
        model = sliced_copy(s.prunable.model, s.prunable.table, plan)
        if start.weights == "mean":
            states = [(v.info.plan, s.prunable.headless(v.state)) for v in voters]
            model.load_state_dict(average(s.prunable.table, plan, model.state_dict(), states))
        model = on_device(model, s.device).eval()
        if start.norms:
            reestimate_norms(model, s.train.images, s.prunable.base, s.device)
        set_head(model, _head(start, s, model, voters).to(s.device))
        return tuned(s, model, fit)

    return run


def _head(start: Start, s: Setting, model: nn.Module, voters: Sequence[Member]) -> nn.Linear:
    if start.head == "ridge":
        return ridge_head(model, s.train, s.prunable.base, s.device)
    features = head_of(model).in_features
    head = random_head(features, len(s.task.classes), torch_rng(s.seed, "head"))
    if start.head == "rows":
        known = [_rows_of(s, v, features) for v in voters]
        if not any(known):
            raise NotApplicableError("no voter shares a class with the task")
        with torch.no_grad():
            for i, name in enumerate(map(canonical, s.task.names)):
                if mine := [k[name] for k in known if name in k]:
                    head.weight[i] = torch.stack([weight for weight, _ in mine]).mean(0)
                    head.bias[i] = torch.stack([bias for _, bias in mine]).mean(0)
    return head


def _rows_of(s: Setting, voter: Member, features: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return a voter's rows for the task's classes that it knows, if its features are as many as the network's."""
    shared = [n for n in s.task.names if canonical(n) in {canonical(m) for m in voter.info.task.names}]
    classifier = head_of(voter.network(s.prunable))
    assert isinstance(classifier, nn.Linear)
    found = shared_rows(shared, voter.info.task.names, classifier) if shared else None
    if found is None or found.in_features != features:
        return {}
    return {canonical(n): (found.weight[i].detach(), found.bias[i].detach()) for i, n in enumerate(shared)}


EXPERIMENT = Experiment("ablations", "what is each choice of ours worth?", "ours", rows)
