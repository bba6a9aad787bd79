import json
from dataclasses import fields, replace
from pathlib import Path

from typing import Any, cast

import pytest
import torch

from mvp_edge.build.member import find_parent, fit_for, make_member, make_recipe, scores_for, untaught
from mvp_edge.config import BuildConfig, FitConfig, FitOverrides, PruneSchedule, ScoreSchedule
from mvp_edge.data import open_source
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.architectures import head_of, new_model
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.training.optimizers import resolve_fit
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import Member, member_id
from mvp_edge.zoo.store import Zoo, open_zoo

CPU = torch.device("cpu")


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
    bundled = open_zoo(None)
    prunable = PrunableModel.of(bundled.base, bundled.load_base())
    infos = [i for i in bundled.infos() if i.recipe.get("method") == "ifp"]
    assert {"specialist", "generalist"} == {i.kind for i in infos}
    for info in infos:
        told = info.recipe
        schedule = PruneSchedule(**{f.name: told[f.name] for f in fields(PruneSchedule)})
        found = find_parent(bundled, prunable, info.task, schedule)
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
