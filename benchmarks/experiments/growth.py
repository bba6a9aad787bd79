"""Section 7.4: does a zoo that grows with MVP's own results serve as well as one that grows with members pruned anew?

Half of the zoo's specialists are the start. Tasks of the other half are then added, once as the members that they
are, and once as networks that MVP makes in 100 iterations from the first half. All three zoos vote on the same targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.methods import SPECIALISTS, tuned
from benchmarks.setting import Setting, load
from benchmarks.suite.experiment import Context, Experiment, Row
from benchmarks.suite.method_rows import mvp_row
from benchmarks.suite.running import Case, cases, try_once, try_rows, why_not
from benchmarks.suite.store import Line
from benchmarks.suite.zoos import fork
from mvp_edge.config import FitConfig
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.meta_vote import assemble, vote
from mvp_edge.voting.neighbours import rank, select_voters
from mvp_edge.zoo.member import MemberInfo, member_id
from mvp_edge.zoo.store import Zoo, open_zoo

NAME = "growth"
ADDED = 25  # tasks at most by which the zoo grows
TASKS = 10
ZOOS = {
    "start": "the first half of the zoo",
    "grown-ifp": "that half and members pruned for their tasks",
    "grown-mvp": "that half and what MVP made for these tasks",
}


def rows(context: Context) -> list[Row]:
    """Return the building of the zoos and MVP by each of them."""
    missing = why_not(context, "cifar100") or (
        "" if len(halves(context)[1]) else "the zoo has fewer than two specialists; add some with: mvp-edge zoo build"
    )
    added = Row("members", "mvp", "members that MVP makes from the first half", None, hyper={"added": ADDED}, zoo=True,
                iterations=context.steps(100), missing=missing, seconds=30.0 * ADDED * context.scale)  # fmt: skip
    votes = [
        mvp_row(context, 100, name=name, title=f"MVP by {title}", missing=missing, hyper={"zoo": name})
        for name, title in ZOOS.items()
    ]
    return [added, *votes]


def run(context: Context, rows: Sequence[Row]) -> None:
    """Grow the zoos, then let each vote."""
    added, *votes = rows
    if added.missing:
        return
    first, second = halves(context)
    start = _fork(context, "start", {i.id for i in first})
    _fork(context, "grown-ifp", {i.id for i in first + second})
    grown = _fork(context, "grown-mvp", {i.id for i in first})
    try_once(NAME, added, context, start, lambda: _grow(context, start, grown, second))
    if len(grown.ids()) < len(first) + len(second):
        return
    tasks = [c.task for c in cases(context, TASKS)]
    for row in votes:
        zoo = open_zoo(str(context.work / f"growth-{row.name}"))
        prunable = PrunableModel.of(zoo.base, zoo.load_base())
        try_rows(NAME, [row], [Case(context, zoo, prunable, task, "cifar100") for task in tasks])


def halves(context: Context) -> tuple[list[MemberInfo], list[MemberInfo]]:
    """Return the specialists that are the start, and those whose tasks are added."""
    specialist = [i for i in context.zoo.infos() if i.kind == "specialist"]
    half = len(specialist) // 2
    return specialist[:half], specialist[half:][: context.steps(ADDED)]


def _fork(context: Context, name: str, ids: set[str]) -> Zoo:
    return fork(context.zoo, context.work / f"growth-{name}", lambda info: info.id in ids)


def _grow(context: Context, start: Zoo, grown: Zoo, tasks: Sequence[MemberInfo]) -> Line:
    """Add what MVP makes from the members of `start` for every task, and return its accuracy on them."""
    prunable = PrunableModel.of(start.base, start.load_base())
    config = FitConfig(iterations=context.steps(100))
    recipe = {
        "method": "mvp",
        "vote": SPECIALISTS.vote,
        "neighbours": SPECIALISTS.neighbours,
        "iterations": config.iterations,
    }
    source, scores = context.source("cifar100"), []
    for info in tasks:
        member = member_id(info.task, recipe)
        if grown.has(member):
            scores.append(grown.info(member).top1 or 0.0)
            continue
        train, test = load(source, info.task, start.base.input_size, "test")
        s = Setting(start, prunable, info.task, train, test, context.device, context.seed)
        found = rank(start, prunable, s.task, train, SPECIALISTS, device=s.device, seed=s.seed)
        counts = target_counts(prunable.table, SPECIALISTS.keep, SPECIALISTS.channel_multiple)
        plan, voters = vote(
            start, prunable, select_voters(found, prunable, s.task, SPECIALISTS), SPECIALISTS, counts, s.seed
        )
        model = assemble(prunable, plan, voters, s.task, train, device=s.device)
        tuned(s, model, config)
        top1 = round(accuracy(predict(model, test.images, prunable.base, s.device), test).top1, 2)
        made = replace(info, id=member, plan=plan, recipe=recipe, top1=top1, outputs_sha256="")
        grown.add(made, {k: v.cpu() for k, v in prunable.state_of(model).items()})
        scores.append(top1)
    return {"top1": round(sum(scores) / len(scores), 2), "notes": {"added": len(scores)}}


EXPERIMENT = Experiment(NAME, "may a zoo grow with MVP's own results?", "Section 7.4", 15, rows, run)
