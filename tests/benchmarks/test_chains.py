"""Experiments that need what others make find it, and run with it."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from benchmarks.__main__ import carry_out
from benchmarks.experiments import meta, ssl, zoos
from benchmarks.experiments.rates import VARIANTS, rival_row
from benchmarks.registry import experiments
from benchmarks.setting import Setting
from benchmarks.suite.experiment import Clock, Context
from benchmarks.suite.store import SAME, Line, Store
from benchmarks.suite.zoos import fork, grow
from mvp_edge.build.members import build_generalists, build_specialists
from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.models.architectures import ARCHITECTURES
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import create_zoo
from tests.bases import small_base
from tests.transformers import SIZE, small_vit


def results(context: Context, name: str, *rows: str) -> dict[str, Line]:
    carry_out(experiments()[name], replace(context, tasks=1, methods=frozenset(rows)))
    return {line["row"]: line for line in context.store.lines(name) if line["row"] in rows}


def test_reptile_starts_from_its_meta_training(context: Context) -> None:
    assert meta.missing(context)
    results(context, "meta", "reptile-meta")
    assert not meta.missing(context)
    found = results(context, "table1", "reptile-100")["reptile-100"]
    assert (found["status"], found["n_tasks"]) == ("ok", 1)
    assert found["hyper"]["lr_from"] == "MVP's"
    meta.file_of(context).unlink()
    results(context, "meta", "reptile-meta")  # its record alone is of no use
    assert not meta.missing(context)


def test_rows_without_labels_start_from_their_own_base_and_zoo(context: Context) -> None:
    assert ssl.missing(context)
    made = results(context, "ssl", "simsiam", "members")
    assert [line["status"] for line in made.values()] == ["ok", "ok"]
    assert made["simsiam"]["top1_mean"] is not None
    found = results(context, "table1", "ifp-ssl-1000", "mvp-ssl-100")
    assert all(line["status"] == "ok" and line["base"].endswith("simsiam") for line in found.values())
    assert ssl.opened(context)[0].base.sha256 != context.zoo.base.sha256
    (context.store.root / "trials" / "ssl.jsonl").unlink()  # as if the run had been stopped before the records
    again = results(context, "ssl", "simsiam", "members")
    assert [line["top1_mean"] for line in again.values()] == [line["top1_mean"] for line in made.values()]


def test_what_is_made_once_is_made_anew_with_other_settings(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def places() -> list[Path]:
        return [meta.file_of(context), ssl._base_file(context), ssl._zoo_path(context), zoos.path_of(context, "taylor")]

    before = places()
    assert before == places()
    monkeypatch.setattr(meta, "TRAINING_TASKS", 1000 * meta.TRAINING_TASKS)
    monkeypatch.setattr(ssl, "PRETRAINING", replace(ssl.PRETRAINING, lr=0.5))
    monkeypatch.setattr(zoos, "FIT", replace(zoos.FIT, lr=0.5))
    assert not set(before) & set(places())


def test_zoos_of_other_members_vote(context: Context) -> None:
    made = results(context, "zoos", *zoos.RECIPES)
    assert [line["status"] for line in made.values()] == ["ok"] * 3
    assert results(context, "overlap", "taylor-leep")["taylor-leep"]["status"] == "ok"
    assert results(context, "neighbours", "taylor-2")["taylor-2"]["status"] == "ok"
    found = results(context, "task-size", "3-way-mvp-60", "10-way-mvp-190")
    assert {line["status"] for line in found.values()} == {"ok"}
    for line, ways in zip(found.values(), (10, 3), strict=True):
        trials = [t for t in context.store.trials("task-size") if t["row"] == line["row"]]
        assert {len(t["classes"]) for t in trials} == {ways}


@pytest.fixture(scope="module")
def vit_zoo(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a zoo of a small vision transformer with a generalist and three specialists made by AHNP."""
    classes = open_source(str(data / "cifar100")).classes
    model = small_vit(num_classes=len(classes), depth=4)
    base = small_base("vit_small_for_tests", SIZE, "timm:small", classes=classes)
    zoo = create_zoo(tmp_path_factory.mktemp("vit") / "zoo", base, model)
    fit = FitConfig(4, 8, 1e-4, optimizer="adamw")
    config = BuildConfig(members=3, schedule=PruneSchedule(keep=0.5), fit=fit, generalist_fit=fit, parent="base")
    prunable, source = PrunableModel.of(zoo.base, model), open_source(str(data / "cifar100"))
    cpu, silent = torch.device("cpu"), SilentProgress()
    build_generalists(zoo, prunable, source, [0.1], config, device=cpu, progress=silent)
    build_specialists(zoo, prunable, source, config, device=cpu, progress=silent)
    return zoo.path


def test_transformers_have_their_table_and_figures(
    context: Context, vit_zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARCHITECTURES, "vit_small_for_tests", lambda n: small_vit(num_classes=n, depth=4))
    given = replace(context, folders={"vit-zoo": vit_zoo}, scale=0.04)
    carry_out(experiments()["table2"], replace(given, tasks=1))
    lines = given.store.lines("table2")
    assert [(line["method"], line["status"], line["reason"]) for line in lines if "-rate-" not in line["row"]] == [
        (method, "ok", "") for method in ("ahnp", "ahnp", "random", "uvc", "power", *["mvp"] * 4)
    ]
    assert all("no rate was chosen yet" in line["reason"] for line in lines if "-rate-" in line["row"])
    assert results(given, "overlap", "vit-leep")["vit-leep"]["status"] == "ok"
    assert results(given, "iterations", "vit-mvp-10")["vit-mvp-10"]["status"] == "ok"


def test_the_best_recorded_rate_is_taken(context: Context) -> None:
    results(context, "rates", "mest", "dlth")
    store, rates = context.store, experiments()["rates"].rows(context)
    for row, top1 in (("mest-lr0.01", 30.0), ("mest-random-lr0.1", 150.0), ("dlth-lr0.03", 150.0)):
        old = next(t for t in store.trials("rates") if t["row"] == row)
        store.add("rates", {**old, "top1": top1})
    rows = {r.name: r for r in experiments()["table1"].rows(context)}
    assert rows["mest-100"].hyper["lr"] == 0.1
    assert rows["mest-100"].hyper["start"] == "random"
    assert rows["dlth-100"].hyper["lr"] == 0.03
    assert rows["dlth-100"].hyper["lr_from"] == "held-out training images"
    assert rows["reptile-100"].hyper["lr"] == 0.01  # no meta-training, so no records
    assert len(rates) == sum(len(v.rates) for v in VARIANTS.values())


def test_a_zoo_grows_only_while_there_is_time(context: Context) -> None:
    zoo = fork(context.zoo, context.work / "grown", lambda info: info.kind == "generalist")
    assert {i.kind for i in zoo.infos()} == {"generalist"}
    assert zoo.base == context.zoo.base
    config = BuildConfig(members=2, ways=2, schedule=PruneSchedule(keep=0.1), fit=FitConfig(iterations=2, batch_size=8))
    late = replace(context, clock=Clock(0.1))
    assert grow(late, zoo, context.source("cifar100"), config, seconds_each=60) == 0
    assert grow(context, zoo, context.source("cifar100"), config, seconds_each=60) == 2
    again = fork(context.zoo, context.work / "grown", lambda info: False)
    assert len(again.infos()) == 4  # what exists is opened as it is


def test_the_two_halves_of_growth_do_not_overlap(context: Context) -> None:
    from benchmarks.experiments.growth import halves

    first, second = halves(replace(context, scale=1.0))
    assert first
    assert second
    assert not {i.id for i in first} & {i.id for i in second}


@pytest.mark.parametrize("name", ["overlap", "neighbours", "groups", "iterations"])
def test_figures_are_drawn_from_records(name: str, context: Context) -> None:
    one = {"overlap": "random", "neighbours": "activation-2", "groups": "leep-group1-20", "iterations": "mvp-10"}[name]
    results(context, name, one)
    assert (context.store.root / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_rival_trains_at_the_rate_that_its_row_tells(context: Context, tmp_path: Path) -> None:
    given, seen = replace(context, store=Store(tmp_path)), list[FitConfig]()

    def train(setting: object, fit: FitConfig) -> nn.Module:
        seen.append(fit)
        return nn.Identity()

    trial = dict.fromkeys(SAME, "same") | {"task": "a,b", "status": "ok", "dataset": "cifar100", "seed": 0}
    for rate, top1 in zip(VARIANTS["dlth"].rates, (70.0, 90.0, 80.0), strict=True):
        given.store.add("rates", {**trial, "row": f"dlth-lr{rate:g}", "top1": top1})
    row = rival_row(given, "dlth", "DLTH", train, {})
    assert row.run is not None
    row.run(cast(Setting, None))  # no image is looked at
    assert [(fit.lr, fit.iterations) for fit in seen] == [(VARIANTS["dlth"].rates[1], row.iterations)]
    assert row.hyper["lr"] == seen[0].lr


@pytest.mark.parametrize(("best", "shown"), [("ahnp-lr5e-05", False), ("ahnp-lr0.0002", True)])
def test_ahnp_has_a_second_row_where_another_rate_than_the_papers_suits_it(
    context: Context, tmp_path: Path, best: str, shown: bool
) -> None:
    given = replace(context, store=Store(tmp_path))
    trial = dict.fromkeys(SAME, "same") | {"task": "a,b", "status": "ok", "dataset": "cifar100", "seed": 0}
    for row in (f"ahnp-lr{rate:g}" for rate in VARIANTS["ahnp"].rates):
        given.store.add("rates", {**trial, "row": row, "top1": 90.0 if row == best else 80.0})
    rows = {r.name: r for r in experiments()["table2"].rows(given)}
    assert ("ahnp-rate-1000" in rows) == shown
    if shown:
        assert rows["ahnp-rate-1000"].hyper["lr"] == 2e-4
