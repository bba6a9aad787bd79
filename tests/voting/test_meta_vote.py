import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvp_edge.config import VoteConfig
from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.plan import KeepPlan, full_plan, make_plan
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import accuracy, predict
from mvp_edge.voting.meta_vote import assemble, average, count_votes, select_units, vote
from mvp_edge.voting.neighbours import LeepInputs, Neighbour, rank
from mvp_edge.zoo.member import Member
from mvp_edge.zoo.store import Zoo

WIDTH = 12


kept_sets = st.lists(st.sets(st.integers(0, WIDTH - 1), min_size=4, max_size=4), min_size=1, max_size=6)


def plans(sets: list[set[int]]) -> list[KeepPlan]:
    return [make_plan({"g": WIDTH}, {"g": s}) for s in sets]


def run(votes: dict[str, np.ndarray], vote: Any, temperature: float = 0.5, seed: int = 0) -> tuple[int, ...]:
    plan = select_units(
        votes,
        {"g": 4},
        vote=vote,
        temperature=temperature,
        tie_break={"g": np.arange(WIDTH, dtype=float)},
        rng=np.random.default_rng(seed),
    )
    return plan["g"]


@given(st.sets(st.integers(0, WIDTH - 1), min_size=4, max_size=4), st.integers(1, 5))
def test_a_unanimous_vote_is_the_plan(chosen: set[int], voters: int) -> None:
    assert run(count_votes(plans([chosen] * voters)), "top") == tuple(sorted(chosen))


@given(kept_sets, st.randoms())
def test_the_order_of_voters_is_irrelevant(sets: list[set[int]], random: Any) -> None:
    shuffled = sets[:]
    random.shuffle(shuffled)
    for how in ("top", "sample"):
        assert run(count_votes(plans(sets)), how) == run(count_votes(plans(shuffled)), how)


@given(kept_sets, st.sampled_from(["top", "sample"]), st.integers(0, 99))
def test_selected_units_are_as_many_as_asked_for(sets: list[set[int]], vote: str, seed: int) -> None:
    kept = run(count_votes(plans(sets)), vote, seed=seed)
    assert len(kept) == len(set(kept)) == 4
    assert min(kept) >= 0 and max(kept) < WIDTH


@given(kept_sets)
def test_top_is_the_limit_of_sampling_at_low_temperature(sets: list[set[int]]) -> None:
    votes = count_votes(plans(sets))["g"]
    lowest = min(votes[list(run({"g": votes}, "sample", temperature=1e-9))])
    assert lowest == min(votes[list(run({"g": votes}, "top"))])


def test_ties_fall_to_the_more_important_unit() -> None:
    assert run({"g": np.zeros(WIDTH)}, "top") == (8, 9, 10, 11)
    votes = np.zeros(WIDTH)
    votes[[0, 1]] = 1
    assert run({"g": votes}, "top") == (0, 1, 10, 11)


def test_sampling_follows_equation_1() -> None:
    votes = np.array([0.0, 1.0, 2.0])
    expected = np.exp(votes / 0.7) / np.exp(votes / 0.7).sum()
    rng = np.random.default_rng(1)
    drawn = [
        select_units({"g": votes}, {"g": 1}, vote="sample", temperature=0.7, tie_break={"g": np.zeros(3)}, rng=rng)[
            "g"
        ][0]
        for _ in range(4000)
    ]
    assert np.allclose(np.bincount(drawn, minlength=3) / 4000, expected, atol=0.03)


def test_weights_of_votes_count() -> None:
    votes = count_votes(plans([{0, 1, 2, 3}, {4, 5, 6, 7}]), [1.0, 1.5])
    assert run(votes, "top") == (4, 5, 6, 7)
    with pytest.raises(ValueError, match="at least one plan"):
        count_votes([])


def test_weighted_votes_do_not_depend_on_the_order_of_the_voters() -> None:
    voters = list(zip(plans([{0, 1, 2, 3}] * 3), [0.1, 0.2, 0.3], strict=True))  # 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    orders = [count_votes(*map(list, zip(*order, strict=True)))["g"] for order in itertools.permutations(voters)]
    assert all((votes == orders[0]).all() for votes in orders)


CPU = torch.device("cpu")


CONFIG = VoteConfig(keep=0.5, channel_multiple=4, neighbours=2)


def test_a_generalist_member_alone_is_followed_where_votes_are_sampled(zoo: Zoo, prunable: PrunableModel) -> None:
    specialist = Neighbour(zoo.infos()[0], 0.0)
    generalist = replace(specialist, info=replace(specialist.info, kind="generalist"))
    sampled, counts = replace(CONFIG, vote="sample", temperature=2.0), dict(specialist.info.plan.counts)
    assert vote(zoo, prunable, [generalist], sampled, counts, 0)[0] == specialist.info.plan
    assert vote(zoo, prunable, [specialist], sampled, counts, 0)[0] != specialist.info.plan


def test_mean_weights_do_not_depend_on_the_order_of_the_voters(zoo: Zoo, prunable: PrunableModel) -> None:
    """Equally near voters are ordered by their names: renaming them changed delivered logits by 3e-4."""
    voters = [(m.info.plan, prunable.headless(m.state)) for m in map(zoo.load, zoo.infos())]
    whole = prunable.model.state_dict()
    means = [
        average(prunable.table, full_plan(prunable.table.widths), whole, v) for v in itertools.permutations(voters)
    ]
    assert len(means) == 6 and any((means[0][name] != whole[name]).any() for name in whole)
    assert all(torch.equal(other[name], value) for other in means for name, value in means[0].items())


def test_what_is_assembled_fits_the_task_before_any_training(
    zoo: Zoo, prunable: PrunableModel, task: Task, data: ImageSet
) -> None:
    found = rank(zoo, task, CONFIG, LeepInputs(prunable, data, CPU, 0))
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
