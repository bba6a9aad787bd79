from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvp_edge.config import VoteConfig
from mvp_edge.core.errors import ZooError
from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.plan import full_plan, make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names import wordnet
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.assembly import assemble, vote
from mvp_edge.voting.neighbours import Neighbour, rank
from mvp_edge.voting.voters import knowing, ready_made, select_voters, vote_weights
from mvp_edge.zoo.member import Member
from mvp_edge.zoo.store import Zoo, open_zoo

CPU = torch.device("cpu")
CONFIG = VoteConfig(keep=0.5, channel_multiple=4, neighbours=2)


@pytest.fixture
def zoo(tiny_zoo: Path) -> Zoo:
    return open_zoo(str(tiny_zoo))


@pytest.fixture
def prunable(zoo: Zoo) -> PrunableModel:
    return PrunableModel.of(zoo.base, zoo.load_base())


@pytest.fixture
def task() -> Task:
    return wordnet.resolve(Task((TaskClass("tiger"), TaskClass("chair"), TaskClass("crab"))))


@pytest.fixture
def data(images: Path, task: Task, zoo: Zoo) -> ImageSet:
    return open_source(str(images)).load(task.names, "train", zoo.base.input_size)


def test_ranking_is_sorted_and_leaves_out_what_is_excluded(
    zoo: Zoo, prunable: PrunableModel, task: Task, data: ImageSet
) -> None:
    found = rank(zoo, prunable, task, data, CONFIG, device=CPU, seed=0)
    assert len(found) == len(zoo.ids())
    assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
    assert all(n.similarity <= 0 for n in found)
    own = frozenset([found[0].info.task.id])
    assert found[0] not in rank(zoo, prunable, task, data, CONFIG, device=CPU, seed=0, exclude=own)
    words = rank(zoo, None, task, None, replace(CONFIG, similarity="wordnet"), device=CPU, seed=0)
    assert all(0 <= n.similarity <= 1 for n in words)
    with pytest.raises(ZooError, match="no generalist"):
        rank(zoo, prunable, task, data, replace(CONFIG, voters="generalist"), device=CPU, seed=0)


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
    for other in ("any", "specialist"):
        assert select_voters([*specialist, generalist], prunable, task, replace(CONFIG, voters=other)) == specialist[:2]  # pyright: ignore
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
    worse = replace(members[0], info=replace(members[0].info, id="a", top1=0.0))
    for each in ([worse, *members], [*members, worse]):  # of one size the most accurate
        assert select_voters(each, prunable, task, CONFIG, {n: min(2, w) for n, w in widths.items()}) == [members[0]]


@pytest.mark.parametrize(
    ("keep", "made_at"), [(0.05, 0.05), (0.08, 0.05), (0.1, 0.1), (0.2, 0.2), (0.29, 0.3), (1, 0.3)]
)
def test_the_bundled_member_that_was_made_at_a_ratio_fits_it(task: Task, keep: float, made_at: float) -> None:
    """In whole lanes the smallest has 5.8 % of the units, and it is what a twentieth means."""
    ranked = [Neighbour(i, 0.5) for i in open_zoo(None).infos()]
    assert ready_made(ranked, task, keep).info.recipe["keep"] == made_at
    with pytest.raises(ZooError, match=r"keep 0\.04 is less than the smallest member .*\(0\.058\)"):
        ready_made(ranked, task, 0.04)


def test_a_generalist_member_alone_is_followed_where_votes_are_sampled(zoo: Zoo, prunable: PrunableModel) -> None:
    specialist = Neighbour(zoo.infos()[0], 0.0)
    generalist = replace(specialist, info=replace(specialist.info, kind="generalist"))
    sampled, counts = replace(CONFIG, vote="sample", temperature=2.0), dict(specialist.info.plan.counts)
    assert vote(zoo, prunable, [generalist], sampled, counts, 0)[0] == specialist.info.plan
    assert vote(zoo, prunable, [specialist], sampled, counts, 0)[0] != specialist.info.plan


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


def test_what_is_assembled_fits_the_task_before_any_training(
    zoo: Zoo, prunable: PrunableModel, task: Task, data: ImageSet
) -> None:
    found = rank(zoo, prunable, task, data, CONFIG, device=CPU, seed=0)
    counts = target_counts(prunable.table, CONFIG.keep, CONFIG.channel_multiple)
    plan, voters = vote(zoo, prunable, found[:2], CONFIG, counts, seed=0)
    assert plan.counts == target_counts(prunable.table, 0.5, 4)
    model = assemble(prunable, plan, voters, task, data, device=CPU)
    score = accuracy(predict(model, data.images, zoo.base, CPU), data)
    assert score.top1 > 60  # three colours, one closed-form head on re-estimated norms
    assert vote(zoo, prunable, found[:2], CONFIG, counts, seed=0)[0] == plan


def test_where_everything_is_kept_the_base_model_stays_as_it_is(
    zoo: Zoo, prunable: PrunableModel, task: Task, data: ImageSet
) -> None:
    voters = [zoo.load(i) for i in zoo.infos()]
    whole = predict(prunable.model, data.images, zoo.base, CPU)
    model = assemble(prunable, full_plan(prunable.table.widths), voters, task, None, device=CPU)
    rows = [zoo.base.classes.index(name) for name in task.names]
    assert torch.allclose(predict(model, data.images, zoo.base, CPU), whole[:, rows], atol=1e-5)
    unknown = Task((*task.classes[:2], TaskClass("spaceship")))
    model = assemble(prunable, full_plan(prunable.table.widths), voters, unknown, data, device=CPU)
    assert torch.equal(model.get_buffer("bn1.running_mean"), prunable.model.get_buffer("bn1.running_mean"))
    assert accuracy(predict(model, data.images, zoo.base, CPU), data).top1 > 60


def test_a_name_in_another_sense_gets_no_row_of_the_head(
    zoo: Zoo, prunable: PrunableModel, task: Task, data: ImageSet
) -> None:
    crab = TaskClass("crab", "crab.n.02")  # its flesh
    meant = Task((*task.classes[:2], crab))
    voters = [zoo.load(replace(zoo.infos()[0], task=task))]
    assert voters[0].info.knows(task) and not voters[0].info.knows(meant)
    with pytest.raises(ValueError, match="fitted to images"):
        assemble(prunable, full_plan(prunable.table.widths), voters, meant, None, device=CPU)
    with pytest.raises(ValueError, match="fitted to images"):
        assemble(prunable, voters[0].info.plan, voters, meant, None, device=CPU)
    model = assemble(prunable, full_plan(prunable.table.widths), voters, meant, data, device=CPU)
    assert accuracy(predict(model, data.images, zoo.base, CPU), data).top1 > 60


def test_a_member_that_keeps_everything_is_delivered_as_it_is(zoo: Zoo, prunable: PrunableModel, task: Task) -> None:
    """Even where the base model names no classes."""
    state = {k: v * 1.1 for k, v in prunable.state_of(prunable.model).items()}
    everything = Task(tuple(TaskClass(c) for c in zoo.base.classes))
    info = replace(zoo.infos()[0], kind="generalist", task=everything, plan=full_plan(prunable.table.widths))
    member, nameless = Member(info, state), replace(prunable, base=replace(prunable.base, classes=()))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = predict(member.network(prunable), images, zoo.base, CPU)[
        :, [zoo.base.classes.index(n) for n in task.names]
    ]
    model = assemble(nameless, info.plan, [member], task, None, device=CPU)
    assert torch.allclose(predict(model, images, zoo.base, CPU), expected, atol=1e-5)


def test_a_member_comes_back_as_the_network_that_was_scored(zoo: Zoo, prunable: PrunableModel, images: Path) -> None:
    for info in zoo.infos():
        model = zoo.load(info).network(prunable)
        test = open_source(str(images)).load(info.task.names, "test", zoo.base.input_size)
        assert accuracy(predict(model, test.images, zoo.base, CPU), test).top1 == pytest.approx(info.top1, abs=13)
