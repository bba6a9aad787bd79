import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import RESNET_ZOO
from mvp_edge.config import VoteConfig
from mvp_edge.core.errors import ZooError
from mvp_edge.data import ImageSet
from mvp_edge.models.plan import make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.names.wordnet import class_similarity
from mvp_edge.pruners import target_counts
from mvp_edge.voting.neighbours import LeepInputs, Neighbour, knowing, rank, ready_made, select_voters, vote_weights
from mvp_edge.zoo import catalogue
from mvp_edge.zoo.store import Zoo, open_zoo

CPU = torch.device("cpu")
CONFIG = VoteConfig(keep=0.5, channel_multiple=4, neighbours=2)


def test_ranking_is_sorted_and_leaves_out_what_is_excluded(
    zoo: Zoo, prunable: PrunableModel, task: Task, data: ImageSet
) -> None:
    inputs = LeepInputs(prunable, data, CPU, 0)
    found = rank(zoo, task, CONFIG, inputs)
    assert len(found) == len(zoo.ids())
    assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
    assert all(n.similarity <= 0 for n in found)
    own = frozenset([found[0].info.task.id])
    assert found[0] not in rank(zoo, task, CONFIG, inputs, exclude=own)
    words = rank(zoo, task, replace(CONFIG, similarity="wordnet"))
    assert all(0 <= n.similarity <= 1 for n in words)
    with pytest.raises(ZooError, match="no generalist"):
        rank(zoo, task, replace(CONFIG, voters="generalist"), inputs)


def test_a_generalist_member_that_contains_the_task_votes_alone(zoo: Zoo, prunable: PrunableModel, task: Task) -> None:
    counts = target_counts(prunable.table, CONFIG.keep, CONFIG.channel_multiple)
    plan = make_plan(prunable.table.widths, {n: range(c) for n, c in counts.items()})
    specialist = [Neighbour(i, 0.0) for i in zoo.infos()]
    everything = Task(tuple(TaskClass(c) for c in zoo.base.classes))
    generalist = Neighbour(replace(specialist[0].info, kind="generalist", task=everything, plan=plan), -1.0)
    assert select_voters([*specialist, generalist], prunable, task, CONFIG) == [generalist]
    assert select_voters([*specialist, generalist], prunable, task, replace(CONFIG, voters="generalist")) == [
        generalist
    ]
    other: Any
    for other in ("any", "specialist"):
        assert select_voters([*specialist, generalist], prunable, task, replace(CONFIG, voters=other)) == specialist[:2]
    for keep in (0.6, 0.25):  # grows from it, is cut from it
        assert select_voters([*specialist, generalist], prunable, task, replace(CONFIG, keep=keep)) == [generalist]
    unknown = Task((TaskClass("tiger"), TaskClass("spaceship")))
    assert select_voters([*specialist, generalist], prunable, unknown, CONFIG) == specialist[:2]


def test_the_generalist_member_that_fits_best_votes(zoo: Zoo, prunable: PrunableModel, task: Task) -> None:
    widths = prunable.table.widths
    everything = Task(tuple(TaskClass(c) for c in zoo.base.classes))
    specialist = [Neighbour(i, 0.0) for i in zoo.infos()]

    def generalist(units: int) -> Neighbour:
        plan = make_plan(widths, {n: range(min(units, w)) for n, w in widths.items()})
        return Neighbour(replace(specialist[0].info, kind="generalist", task=everything, plan=plan), -1.0)

    members = [generalist(4), generalist(8), generalist(12), generalist(16)]
    ranked = [*specialist, *members]

    def chosen(units: int, config: VoteConfig = CONFIG) -> list[Neighbour]:
        return select_voters(ranked, prunable, task, config, {n: min(units, w) for n, w in widths.items()})

    assert chosen(8) == [members[1]]
    assert chosen(11) == [members[1]]  # grows from the largest inside
    assert chosen(2) == [members[0]]  # is cut from the smallest around
    assert chosen(8, replace(CONFIG, method="smsp")) == specialist[:2]
    mixed = {n: 20 if i else 2 for i, n in enumerate(widths)}
    assert select_voters(ranked, prunable, task, CONFIG, mixed) == specialist[:2]
    assert knowing(ranked, task) == members[::-1]
    twin = replace(members[0], info=replace(members[0].info, id="zz", top1=100.0))
    for each in ([twin, *members], [*members, twin]):  # of one size the first by name, whatever the test images say
        assert select_voters(each, prunable, task, CONFIG, {n: min(2, w) for n, w in widths.items()}) == [members[0]]


@pytest.mark.parametrize(
    ("keep", "made_at"), [(0.05, 0.05), (0.08, 0.05), (0.1, 0.1), (0.2, 0.2), (0.29, 0.3), (1, 0.3)]
)
def test_the_member_that_was_made_at_a_ratio_fits_it(task: Task, keep: float, made_at: float) -> None:
    """In multiples of 8 channels the smallest has 5.8 % of the units, and it is what a twentieth means."""
    ranked = [Neighbour(i, 0.5) for i in open_zoo(RESNET_ZOO).infos()]
    assert ready_made(ranked, task, keep).info.recipe["keep"] == made_at
    with pytest.raises(ZooError, match=r"0\.04 .* 0\.058"):
        ready_made(ranked, task, 0.04)


def test_similarity_weighs_votes_of_smsp_only(zoo: Zoo) -> None:
    info = zoo.infos()[0]
    leep = [Neighbour(info, 0.0), Neighbour(info, -0.7)]
    words = [Neighbour(info, 1.0, "wordnet"), Neighbour(info, 0.25, "wordnet")]
    assert vote_weights(leep, CONFIG) == vote_weights(words, CONFIG) == [1.0, 1.0]
    smsp = replace(CONFIG, method="smsp")
    assert vote_weights(leep, smsp) == pytest.approx([1.0, 0.4966], abs=1e-4)
    assert vote_weights(words, smsp) == [1.0, 0.25]
    assert vote_weights(leep[:1] * 2, smsp) == [1.0, 1.0]
    for far in (Neighbour(info, 0.0, "wordnet"), Neighbour(info, -1e4)):  # whose weights would sum to nothing
        assert vote_weights([far, far], smsp) == [1.0, 1.0]


def by_hand(task: Task, zoo: Zoo) -> list[tuple[str, float]]:
    """All members by the definition of the similarity, one class after the other; of equal ones the first by id."""

    def similarity(other: Task) -> float:
        table = [[class_similarity(x, y) for y in other.classes] for x in task.classes]
        forth, back = map(max, table), map(max, zip(*table, strict=True))
        return (math.fsum(forth) / len(task.classes) + math.fsum(back) / len(other.classes)) / 2

    return sorted(((i.id, similarity(i.task)) for i in zoo.infos()), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("many", [1, 1000])
def test_the_catalogue_ranks_as_descriptions_one_by_one(
    many: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalogue, "MANY", many)
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path))
    zoo = open_zoo(RESNET_ZOO)
    task = wordnet.resolve(Task(tuple(map(TaskClass, ("apple", "lion", "bus", "zxqv", "telephone")))))
    for _ in range(2):
        all_of_them = rank(zoo, task, VoteConfig(voters="any"), prefilter=1000)
        wanted = by_hand(task, zoo)
        assert [(n.info.id, n.similarity) for n in all_of_them] == wanted
    generalists = {i.id for i in zoo.generalists()}
    nearest = [name for name, _ in wanted if name not in generalists][:70]
    few = rank(zoo, task, VoteConfig(neighbours=70))
    assert [n.info.id for n in few] == [name for name, _ in wanted if name in {*generalists, *nearest}]
    (alone,) = rank(zoo, task, VoteConfig(), members=[nearest[3]])
    assert (alone.info.id, alone.similarity) in wanted and alone.info.id == nearest[3]
    kinds = {n.info.kind for n in rank(zoo, task, VoteConfig(voters="specialist"))}
    assert kinds == {"specialist"}
