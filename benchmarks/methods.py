"""The package's methods, each as a function that makes the network for a target task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from benchmarks.setting import Setting
from mvp_edge.build.members import find_parent, make_member
from mvp_edge.config import Budget, FitConfig, PruneConfig, PruneSchedule, ScoreSchedule, VoteConfig
from mvp_edge.core.device import on_device
from mvp_edge.core.progress import SilentProgress
from mvp_edge.core.streams import rng, torch_rng
from mvp_edge.models.architectures import head_of, set_head
from mvp_edge.models.heads import random_head, ridge_head, shared_rows
from mvp_edge.models.slicing import sliced_copy
from mvp_edge.prune.fit import MANY_IMAGES, tune_low_data
from mvp_edge.prune.size import Sizing, Votes, choose_counts
from mvp_edge.pruners import random_plan, target_counts
from mvp_edge.training.loop import BatchSource, accuracy, fit, predict, reestimate_norms
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.training.recipes import recipe
from mvp_edge.voting.meta_vote import assemble, vote
from mvp_edge.voting.neighbours import Neighbour, select_voters, vote_weights

PAPER = FitConfig()
NONE = replace(PAPER, iterations=0)
TOOL = replace(recipe("prune", "sgd"), distill=0.0)
"""How the tool fine-tunes."""
DISTILLED = replace(TOOL, distill=0.9)
SPECIALISTS = VoteConfig(voters="specialist")
GENERALIST = VoteConfig(voters="generalist")
ANY = VoteConfig(voters="any")
EQUATION_1 = replace(SPECIALISTS, vote="sample")
IFP_LR = 0.005  # the paper's, Section 3.1
AHNP = replace(recipe("specialist", "adamw"), iterations=1000)
"""The paper's rate and iterations of automatic head and node pruning."""
VIT = replace(recipe("prune", "adamw"), distill=0.0)
"""How the tool fine-tunes transformers."""
VIT_PAPER = replace(VIT, warmup=0.0)
Method = Callable[[Setting], nn.Module]
Members = Callable[[Setting], Sequence[Neighbour]]


def tuned(s: Setting, model: nn.Module, config: FitConfig) -> nn.Module:
    """Fine-tune a network on the target task, in place."""
    if config.iterations == 0:
        return model
    source = BatchSource(s.train, s.prunable.base, config, s.device, s.seed, s.teacher if config.distill > 0 else None)
    fit(model, source, config, optimizer=make_optimizer(model, config))
    return model


def top1(s: Setting, model: nn.Module) -> float:
    """Return a network's accuracy in percent on the images to score on."""
    return round(accuracy(predict(model, s.test.images, s.prunable.base, s.device), s.test).top1, 2)


def headed(s: Setting, model: nn.Module) -> nn.Module:
    """Give a cut network, in place, what it needs before training: norms measured, and a head fitted, on the images."""
    base, device = s.prunable.base, s.device
    model = on_device(model, device)
    reestimate_norms(model, s.train.images, base, device)
    set_head(model, ridge_head(model, s.train, base, device).to(device))
    return model


def specialists(s: Setting) -> list[Neighbour]:
    """Return the specialists by LEEP, nearest first."""
    return [n for n in s.ranked if n.info.kind == "specialist"]


def sized(
    s: Setting, config: VoteConfig, budget: Budget, voters: Sequence[Neighbour], initial: Sequence[Neighbour] = ()
) -> Sizing:
    """Return the counts that the tool finds for a budget.

    Raises:
        BudgetError: it is out of reach.
    """
    votes = Votes([n.info.plan for n in voters], vote_weights(voters, config), [n.info.plan for n in initial])
    wanted = PruneConfig(Path("classes.txt"), "", vote=config, budget=budget)
    return choose_counts(s.prunable, wanted, votes, s.task.names, SilentProgress())


def voted(config: VoteConfig, fitting: FitConfig, members: Members | None = None) -> Method:
    """Meta-Vote Pruning with the given vote; where `members` names neighbours, all of these vote."""

    def run(s: Setting) -> nn.Module:
        if members is None:
            found = [n for n in s.ranked if config.voters in ("auto", "any", n.info.kind)]
            chosen = select_voters(found, s.prunable, s.task, config)
        else:
            chosen = list(members(s))
        if not chosen:
            raise LookupError("nobody votes: the zoo has no such member")
        counts = target_counts(s.prunable.table, config.keep, config.channel_multiple)
        plan, voters = vote(s.zoo, s.prunable, chosen, config, counts, s.seed)
        return tuned(s, assemble(s.prunable, plan, voters, s.task, s.train, device=s.device), fitting)

    return run


def delivered(fitting: FitConfig) -> Method:
    """What the command does with these images: a generalist that works already, fine-tuned as they allow."""

    def run(s: Setting) -> nn.Module:
        if len(s.train) >= MANY_IMAGES:
            return voted(VoteConfig(), fitting)(s)
        model = voted(VoteConfig(), NONE)(s)
        tune_low_data(model, s.prunable.base, s.train, fitting, device=s.device, seed=s.seed, progress=SilentProgress())
        return model

    return run


def at_random(fitting: FitConfig, keep: float = 0.1) -> Method:
    """Random pruning: the base's own weights for units drawn uniformly, with a random head."""

    def run(s: Setting) -> nn.Module:
        counts = target_counts(s.prunable.table, keep, 8)
        plan = random_plan(s.prunable.table, counts, rng(s.seed, f"random/{s.task.id}"))
        model = sliced_copy(s.prunable.model, s.prunable.table, plan)
        features = head_of(model).in_features
        set_head(model, random_head(features, len(s.task.classes), torch_rng(s.seed, "head")))
        return tuned(s, on_device(model, s.device), fitting)

    return run


def iterative(
    iterations: int, lr: float = IFP_LR, schedule: PruneSchedule | None = None, batch_size: int = 128
) -> Method:
    """IFP from the base model, for this task alone."""
    fitting = FitConfig(iterations=iterations, lr=lr, batch_size=batch_size)
    return lambda s: make_member(
        s.prunable, s.train, schedule or PruneSchedule(), fitting, device=s.device, seed=s.seed
    )[0]


def scored(fitting: FitConfig, keep: float = 0.1) -> Method:
    """Automatic head and node pruning from the base model, for one task alone (Algorithm 3)."""
    schedule, scores = PruneSchedule(keep=keep), ScoreSchedule()
    return lambda s: make_member(s.prunable, s.train, schedule, fitting, device=s.device, seed=s.seed, scores=scores)[0]


def from_parent(fitting: FitConfig, every: int) -> Method:
    """A specialist of the ResNet zoo's recipe, made for the task itself."""

    def run(s: Setting) -> nn.Module:
        schedule = PruneSchedule(every=every)
        found = find_parent(s.zoo, s.prunable, s.task, schedule)
        parent = None if found is None else s.zoo.load(found)
        return make_member(
            s.prunable, s.train, schedule, fitting, device=s.device, seed=s.seed, parent=parent, teacher=s.teacher
        )[0]

    return run


def few(per_class: int, method: Method) -> Method:
    """A method that is given only so many training images of each class."""

    def run(s: Setting) -> nn.Module:
        fewer = replace(s, train=s.train.at_most(per_class, rng(s.seed, f"few/{s.task.id}")))
        fewer.__dict__["ranked"] = s.ranked  # by all images: the generalist that votes alone is the same
        return method(fewer)

    return run


def whole_base(fitting: FitConfig = NONE) -> Method:
    """The base model with the task's rows of its head, 100 times as large, fine-tuned if asked to: the ceiling."""

    def run(s: Setting) -> nn.Module:
        model = copy.deepcopy(s.prunable.model)
        rows = shared_rows(s.task.names, s.prunable.base.classes, head_of(model))
        set_head(model, rows or ridge_head(model, s.train, s.prunable.base, s.device))
        return tuned(s, on_device(model, s.device), fitting)

    return run
