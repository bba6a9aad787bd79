from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from benchmarks import RESNET_ZOO
from mvp_edge.build.members import (
    build_generalists,
    build_specialists,
    find_parent,
    fit_for,
    make_member,
    make_recipe,
    sample_tasks,
    scores_for,
    untaught,
)
from mvp_edge.config import BuildConfig, FitConfig, FitOverrides, PruneSchedule, ScoreSchedule
from mvp_edge.core.errors import ConfigError, PlanError
from mvp_edge.core.progress import SilentProgress, Stage
from mvp_edge.data import open_source
from mvp_edge.models.architectures import head_of, new_model
from mvp_edge.models.bases import load_base, save_base
from mvp_edge.models.groups import GroupTable
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import accuracy, predict, score
from mvp_edge.training.optimizers import resolve_fit
from mvp_edge.zoo.member import Member, member_id
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo
from tests.bases import small_base
from tests.conftest import COLOURS

CPU = torch.device("cpu")


def test_members_are_pruned_from_the_next_larger_generalist_one(zoo: Zoo) -> None:
    large, small = sorted((i for i in zoo.infos() if i.kind == "generalist"), key=lambda i: -i.plan.achieved)
    assert large.recipe["parent"] is None
    assert small.recipe["parent"] == large.id
    specialist = [i for i in zoo.infos() if i.kind == "specialist"]
    assert len(specialist) == 2
    for info in [small, *specialist]:
        assert info.plan.counts == small.plan.counts
        for group in info.plan.groups:
            assert set(group.kept) <= set(large.plan[group.name])
    assert all(i.recipe["parent"] == large.id for i in specialist)


def test_a_generalist_member_exists_once(zoo: Zoo, prunable: PrunableModel, images: Path) -> None:
    training = FitConfig(iterations=40, batch_size=16, lr=0.02, distill=0.5)
    config = BuildConfig(schedule=PruneSchedule(channel_multiple=4), generalist_fit=training)
    data, silent = open_source(str(images)), SilentProgress()
    assert build_generalists(zoo, prunable, data, [0.75, 0.5], config, device=CPU, progress=silent) == []


def test_a_chain_waits_for_the_member_that_another_process_makes(
    generalist_zoo: Path, prunable: PrunableModel, images: Path, tmp_path: Path
) -> None:
    """The next member is cut from it."""
    whole, zoo = open_zoo(str(generalist_zoo)), open_zoo(str(shutil.copytree(generalist_zoo, tmp_path / "own")))
    large, small = whole.knowing(Task(tuple(TaskClass(c) for c in zoo.base.classes)))
    for info in whole.infos():
        shutil.rmtree(zoo.path / "members" / info.id)
    other = ExitStack()
    other.enter_context(zoo.claim(large.id))
    waited: list[str] = []

    class Told(SilentProgress):
        @contextmanager
        def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
            if name.startswith("Waiting"):
                waited.append(name)
                shutil.copytree(generalist_zoo / "members" / large.id, zoo.path / "members" / large.id)
                other.close()
            yield self

    training = FitConfig(iterations=40, batch_size=16, lr=0.02, distill=0.5)
    config = BuildConfig(schedule=PruneSchedule(channel_multiple=4), generalist_fit=training)
    made = build_generalists(zoo, prunable, open_source(str(images)), [0.5, 0.75], config, device=CPU, progress=Told())
    assert waited == [f"Waiting for another process that makes {large.id}"]
    assert [(i.id, i.recipe["parent"]) for i in made] == [(small.id, large.id)]


def test_a_base_that_is_sliced_wrongly_is_refused_before_training(
    zoo: Zoo, prunable: PrunableModel, images: Path
) -> None:
    first = prunable.table.groups[0]
    wrong = replace(first.dimensions[0], index=first.dimensions[0].index[::-1])
    table = GroupTable((replace(first, dimensions=(wrong, *first.dimensions[1:])), *prunable.table.groups[1:]))
    broken, silent, before = replace(prunable, table=table), SilentProgress(), zoo.ids()
    config = BuildConfig(
        members=3, ways=2, schedule=PruneSchedule(keep=0.25, channel_multiple=4), parent="base", seed=9
    )
    for build in (
        lambda: build_specialists(zoo, broken, open_source(str(images)), config, device=CPU, progress=silent),
        lambda: build_generalists(zoo, broken, open_source(str(images)), [0.25], config, device=CPU, progress=silent),
    ):
        with pytest.raises(PlanError, match="masked"):
            build()
    assert zoo.ids() == before


def test_stored_outputs_tell_the_accuracy_of_any_classes(zoo: Zoo, prunable: PrunableModel, images: Path) -> None:
    names = ("rose", "tiger", "crab")
    test = open_source(str(images)).load(names, "test", zoo.base.input_size)
    for info in zoo.infos():
        outputs = zoo.outputs(info)
        if info.kind == "specialist":
            assert outputs is None
            continue
        assert outputs is not None
        assert score(outputs.logits, outputs.labels, info.task.names).top1 == pytest.approx(info.top1, abs=0.01)
        part = outputs.of(names, info.task.names)
        columns = [info.task.names.index(n) for n in names]
        logits = predict(zoo.load(info).network(prunable), test.images, zoo.base, CPU)[:, columns]
        assert sorted(part.labels.tolist()) == sorted(test.labels.tolist())
        assert score(part.logits, part.labels, names).confusion == accuracy(logits, test).confusion
        order = part.labels.argsort(stable=True)
        assert (part.logits[order] - logits[test.labels.argsort(stable=True)]).abs().max() < 0.05


def test_generalist_members_with_heads_are_a_chain(images: Path, tmp_path: Path) -> None:
    """Two heads a block: at keep 0.5 and 0.25 one is left of them, and the smaller member is cut from the larger."""
    base = small_base("test_vit", (160, 160), "timm:test_vit", classes=tuple(sorted(COLOURS)))
    save_base(new_model("test_vit", len(COLOURS)), base, tmp_path / "base.safetensors")
    zoo = create_zoo(tmp_path / "zoo", *load_base(str(tmp_path / "base.safetensors")))
    vit = PrunableModel.of(zoo.base, zoo.load_base())
    config = BuildConfig(
        members=1, ways=2, schedule=PruneSchedule(keep=0.1), fit=FitOverrides(iterations=2, batch_size=4),
        generalist_fit=FitOverrides(iterations=2, batch_size=4),
    )  # fmt: skip
    data, silent = open_source(str(images)), SilentProgress()
    large, small = build_generalists(zoo, vit, data, [0.5, 0.25], config, device=CPU, progress=silent)
    (specialist,) = build_specialists(zoo, vit, data, config, device=CPU, progress=silent)
    assert (large.recipe["parent"], small.recipe["parent"], specialist.recipe["parent"]) == (None, large.id, small.id)
    for info, keep in ((large, 0.5), (small, 0.25), (specialist, 0.1)):
        assert info.recipe["method"] == "ahnp" and info.recipe["fit"]["optimizer"] == "adamw"
        assert info.plan.counts == target_counts(vit.table, keep, 8)
        assert {info.plan.counts[g.name] for g in vit.table.groups if g.unit_channels > 1} == {1}
        weights = zoo.load(info).network(vit).state_dict()
        assert all(v.isfinite().all() for v in weights.values())


def test_other_images_in_a_folder_of_the_same_name_are_other_members(zoo: Zoo, prunable: PrunableModel, images: Path,
                                                                     tmp_path: Path) -> None:  # fmt: skip
    own = open_zoo(str(shutil.copytree(zoo.path, tmp_path / "own")))
    training = FitConfig(iterations=2, batch_size=4)
    config = BuildConfig(members=2, ways=2, schedule=PruneSchedule(keep=0.5, channel_multiple=4), fit=training)
    photos, other, renamed = (tmp_path / "here" / "photos", tmp_path / "there" / "photos", tmp_path / "pictures")
    for folder in (photos, other, renamed):
        shutil.copytree(images, folder)
    for name in COLOURS:
        (other / "train" / name / "0.png").unlink()

    def built(folder: Path) -> set[str]:
        data, silent = open_source(str(folder)), SilentProgress()
        return {i.id for i in build_specialists(own, prunable, data, config, device=CPU, progress=silent)}

    assert len(built(photos)) == len(built(other)) == 2
    assert built(renamed) == built(photos) == built(other) == set()
    assert len({i.recipe["data_sha256"] for i in own.infos() if i.recipe["data"] == "photos"}) == 4


def test_a_parent_is_larger_in_every_group_and_knows_the_classes(zoo: Zoo, prunable: PrunableModel) -> None:
    task, schedule = Task((TaskClass("tiger"), TaskClass("rose"))), PruneSchedule(keep=0.5, channel_multiple=4)
    sizes = {i.id: i.plan.achieved for i in zoo.infos() if i.kind == "generalist"}
    found = find_parent(zoo, prunable, task, schedule)
    assert found is not None and sizes[found.id] == max(sizes.values())
    smaller = find_parent(zoo, prunable, task, replace(schedule, keep=0.25))
    assert smaller is not None and sizes[smaller.id] == min(sizes.values())
    assert find_parent(zoo, prunable, task, replace(schedule, keep=0.75)) is None
    assert find_parent(zoo, prunable, Task((TaskClass("tiger"), TaskClass("spaceship"))), schedule) is None


def test_without_a_parent_or_teacher_the_head_is_new(prunable: PrunableModel, images: Path) -> None:
    """The paper's IFP; with a teacher the base's own rows are a start."""
    data = open_source(str(images)).load(("tiger", "rose"), "train", prunable.base.input_size)
    fit, schedule = FitConfig(iterations=0, batch_size=4), PruneSchedule(keep=1.0, channel_multiple=1)
    rows = head_of(prunable.model).weight[[prunable.base.classes.index(n) for n in data.classes]]
    for teacher, same in ((None, False), (torch.zeros(len(data), 2), True)):
        model, _ = make_member(prunable, data, schedule, fit, device=CPU, seed=0, teacher=teacher)
        assert torch.equal(head_of(model).weight, rows) == same


def test_members_of_earlier_versions_keep_their_names() -> None:
    """A zoo is filled up only if the same settings and images give the same names."""
    full = open_zoo(RESNET_ZOO)
    prunable = PrunableModel.of(full.base, full.load_base())
    infos = [i for i in full.infos() if i.recipe.get("method") == "ifp"]
    assert {"specialist", "generalist"} == {i.kind for i in infos}
    for info in infos:
        told = info.recipe
        schedule = PruneSchedule(**{f.name: told[f.name] for f in fields(PruneSchedule)})
        found = find_parent(full, prunable, info.task, schedule)
        assert (found and found.id) == told["parent"]
        parent = None if found is None else Member(found, {})
        wanted = ("iterations", "batch_size", *(["lr", "distill"] if info.kind == "specialist" else []))
        fit = resolve_fit(FitOverrides(**{k: told["fit"][k] for k in wanted}), info.kind, prunable.model)
        recipe = make_recipe(parent, schedule, None, fit, told["seed"], told["data"], told["data_sha256"])
        assert member_id(info.task, recipe) == info.id


def test_what_is_new_has_another_name() -> None:
    fit = FitConfig()
    recipes = [
        make_recipe(None, PruneSchedule(), scores, each, 0, "data", images)
        for scores in (None, ScoreSchedule(), ScoreSchedule(sparsity=0.5))
        for each in (fit, replace(fit, optimizer="adamw"))
        for images in ("0" * 64, "1" * 64)
    ]
    assert len({json.dumps(r) for r in recipes}) == len(recipes)


def test_bases_with_attention_are_pruned_by_scores(prunable: PrunableModel) -> None:
    vit = replace(prunable, model=new_model("test_vit", 2))
    config = BuildConfig()
    assert scores_for(config, prunable) is None and scores_for(config, vit) == config.scores
    assert scores_for(replace(config, method="ahnp"), prunable) == config.scores
    assert scores_for(replace(config, method="ifp"), vit) is None
    with pytest.raises(ConfigError, match="'luck'.*auto, ifp, ahnp"):
        BuildConfig(method=cast(Any, "luck"))


def test_members_of_a_base_that_names_no_classes_are_told_not_to_be_taught(nameless_zoo: Path) -> None:
    zoo = open_zoo(str(nameless_zoo))
    prunable, config = PrunableModel.of(zoo.base, zoo.load_base()), BuildConfig()
    assert fit_for("generalist", config, prunable).distill == fit_for("specialist", config, prunable).distill == 0
    assert untaught(["specialist"], config, prunable) == []  # they are not taught unless asked for
    (note,) = untaught(["specialist", "generalist"], config, prunable)
    assert note.startswith("distillation is off: timm:test_resnet does not name its classes")
    named = replace(prunable, base=replace(prunable.base, classes=("a",)))
    assert untaught(["generalist"], config, named) == [] and fit_for("generalist", config, named).distill == 0.5


def test_no_task_is_drawn_from_as_few_classes_as_there_may_be() -> None:
    assert sample_tasks(["apple", "pear"], 5, 0, seed=0) == []
    with pytest.raises(ConfigError, match="--ways is 5"):
        sample_tasks(["apple", "pear"], 5, 1, seed=0)
