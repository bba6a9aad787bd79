"""What each choice of ours is worth: voters, distillation, the vote itself, weights, head, norms, zoo size, lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.methods import DISTILLED, EQUATION_1, SPECIALISTS, by, specialist, taught, tuned, voted
from benchmarks.setting import Setting, by_base, by_member
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import mvp_row
from benchmarks.suite.running import NotApplicableError, cases, try_rows, why_not
from benchmarks.suite.similarity import all_ranked
from mvp_edge.config import FitConfig, VoteConfig
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

NAME = "ablations"
TASKS = 10
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
    missing = why_not(context, "cifar100")
    fit = FitConfig(iterations=context.steps(100))
    distilled = replace(DISTILLED, iterations=context.steps(100))
    generalist = VoteConfig(voters="generalist")

    def mvp(name: str, title: str, run: Callable[[Setting], nn.Module], **hyper: Any) -> Row:
        return mvp_row(context, 100, name=name, title=title, run=run, missing=missing, hyper=hyper)

    def started(name: str, title: str, start: Start) -> Row:
        return mvp(name, title, _from(start, fit), start=vars(start))

    count = sum(i.kind == "specialist" for i in context.zoo.infos())
    sizes = [n for n in ZOO_SIZES if n < count] + [count]
    return [
        mvp_row(context, 100, name="specialist", title="specialists vote: top votes, their mean weights, ridge head",
                missing=missing),
        mvp_row(context, 0, name="generalist-0", title="a generalist, as it is", vote=generalist, missing=missing,
                fit=replace(fit, iterations=0), run=voted(generalist, replace(fit, iterations=0)), seconds=1.0),
        mvp_row(context, 100, name="generalist", title="a generalist, fine-tuned", vote=generalist, missing=missing),
        mvp_row(context, 100, name="generalist-rate", vote=generalist,
                title="a generalist, fine-tuned at the tool's rate",
                fit=replace(DISTILLED, distill=0.0), missing=missing),
        mvp_row(context, 100, name="generalist-distilled", vote=generalist, fit=DISTILLED, missing=missing,
                title="a generalist, fine-tuned at the tool's rate with distillation"),
        *(
            mvp_row(context, 100, name=f"generalist-taught-by-{who}", vote=generalist,
                    title=f"a generalist, taught by {title}",
                    fit=DISTILLED, run=taught(teacher, distilled), missing=missing, hyper={"teacher": who})
            for who, title, teacher in (
                ("base", "the base model alone", by_base),
                ("generalist", "the largest generalist alone", by_member),
            )
        ),
        mvp_row(context, 100, name="specialist-distilled", title="specialists, fine-tuned with distillation",
                fit=replace(fit, distill=distilled.distill), missing=missing),
        mvp_row(context, 100, name="any", title="specialist and generalists vote", vote=VoteConfig(voters="any"),
                missing=missing),
        *(
            mvp_row(context, 100, name=f"tau-{tau:g}", title=f"votes sampled, tau {tau:g}", missing=missing,
                    vote=replace(EQUATION_1, temperature=tau))
            for tau in (0.25, 0.5, 1.0, 2.0)
        ),
        started("base-weights", "the base's weights instead of the voters' mean", Start(weights="base")),
        started("norms-kept", "norm statistics not measured anew", Start(norms=False)),
        started("head-random", "random head", Start(head="random")),
        started("head-rows", "the voters' rows as head", Start(head="rows")),
        *(
            mvp(f"zoo-{n}", f"a zoo of {n} specialists", by(_some(n), SPECIALISTS, fit), size=n)
            for n in sizes
        ),
        *(
            mvp_row(context, 100, name=f"align-{lane}", title=f"counts in lanes of {lane}", missing=missing,
                    vote=replace(SPECIALISTS, channel_multiple=lane), hyper={"align": lane})
            for lane in (1, 4, 16)
        ),
        mvp("wordnet", "neighbours by the class names alone", by(_by_names, SPECIALISTS, fit), similarity="wordnet"),
    ]  # fmt: skip


def run(context: Context, rows: Sequence[Row]) -> None:
    """Run what is missing."""
    if not why_not(context, "cifar100"):
        try_rows(NAME, rows, cases(context, TASKS))


def _some(count: int) -> Callable[[Setting], list[Neighbour]]:
    """Return the nearest of `count` members drawn from the zoo, the same for every task and nested."""

    def members(s: Setting) -> list[Neighbour]:
        order = rng(0, "zoo size").permutation(sorted(i.id for i in s.zoo.infos() if i.kind == "specialist"))
        allowed = set(order[:count])
        return [n for n in specialist(s) if n.info.id in allowed][: SPECIALISTS.neighbours]

    return members


def _by_names(s: Setting) -> list[Neighbour]:
    return all_ranked(s, "wordnet")[: SPECIALISTS.neighbours]


def _from(start: Start, fit: FitConfig) -> Callable[[Setting], nn.Module]:
    def run(s: Setting) -> nn.Module:
        counts = target_counts(s.prunable.table, SPECIALISTS.keep, SPECIALISTS.channel_multiple)
        plan, voters = vote(s.zoo, s.prunable, specialist(s)[: SPECIALISTS.neighbours], SPECIALISTS, counts, s.seed)
        model = sliced_copy(s.prunable.model, s.prunable.table, plan)
        if start.weights == "mean":
            ballots = [(v.info.plan, s.prunable.headless(v.state)) for v in voters]
            model.load_state_dict(average(s.prunable.table, plan, model.state_dict(), ballots))
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


EXPERIMENT = Experiment(NAME, "what is each choice of ours worth?", "ours", 60, rows, run)
