"""Experiments that need what others make find it, and run with it."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import nn

from benchmarks.experiments import EXPERIMENTS, made
from benchmarks.experiments.rates import VARIANTS, baseline_row
from benchmarks.records import Line, append_line
from benchmarks.setting import Setting
from benchmarks.suite import ZOOS, Context, carry_out
from benchmarks.trials import SAME
from mvp_edge.build.members import build_generalists, build_specialists
from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.models.architectures import ARCHITECTURES
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import create_zoo
from tests.bases import small_base
from tests.transformers import SIZE, small_vit


def results(context: Context, name: str, *rows: str) -> list[Line]:
    """Run rows on one task; return their last trials."""
    carry_out(EXPERIMENTS[name], replace(context, tasks=1, methods=frozenset(rows)))
    last = {t["row"]: t for t in context.trials(name)}
    return [last[row] for row in rows]


def test_reptile_starts_from_its_meta_training(context: Context) -> None:
    with pytest.raises(ConfigError, match="benchmarks meta"):
        made.meta_file(context)
    results(context, "meta", "reptile-meta")
    [trial] = results(context, "table1", "reptile-100")
    assert (trial["status"], trial["hyper"]["lr_from"]) == ("ok", "MVP's")
    made.meta_file(context).unlink()
    results(context, "meta", "reptile-meta")  # its record alone is of no use
    assert made.meta_file(context).exists()


def test_rows_without_labels_start_from_their_own_base_and_zoo(context: Context) -> None:
    with pytest.raises(ConfigError, match="benchmarks ssl"):
        ZOOS["ssl"](context)
    first = results(context, "ssl", "simsiam", "members")
    assert all(t["top1"] is not None for t in first)
    for trial in results(context, "table1", "ifp-ssl-1000", "mvp-ssl-100"):
        assert (trial["status"], trial["base"]) == ("ok", f"{context.zoo.base.name}-simsiam")
    (context.out / "trials" / "ssl.jsonl").unlink()  # as if the run had been stopped before the records
    again = results(context, "ssl", "simsiam", "members")
    assert [t["top1"] for t in again] == [t["top1"] for t in first]


def test_what_is_made_once_is_made_anew_with_other_settings(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def places() -> list[Path]:
        paths = (made.meta_path, made.ssl_path, made.ssl_zoo_path, lambda c: made.zoo_path(c, "taylor"))
        return [path(context) for path in paths]

    before = places()
    assert before == places()
    monkeypatch.setattr(made, "TRAINING_TASKS", 1000 * made.TRAINING_TASKS)
    monkeypatch.setattr(made, "PRETRAINING", replace(made.PRETRAINING, lr=0.5))
    monkeypatch.setattr(made, "FIT", replace(made.FIT, lr=0.5))
    assert not set(before) & set(places())


def test_zoos_of_other_members_vote(context: Context) -> None:
    results(context, "zoos", *made.RECIPES)
    results(context, "overlap", "taylor-leep")
    results(context, "neighbours", "taylor-2")
    found = results(context, "task-size", "3-way-mvp-60", "10-way-mvp-190")
    assert [len(t["classes"]) for t in found] == [3, 10]


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
    given = replace(context, folders={"vit-zoo": vit_zoo}, scale=0.04, tasks=1)
    assert carry_out(EXPERIMENTS["table2"], given) == {}
    assert [(t["method"], t["status"]) for t in given.trials("table2")] == [
        (method, "ok") for method in ("ahnp", "ahnp", "random", "uvc", "power", *["mvp"] * 4)
    ]  # rows of tuned rates have to wait for a rate
    results(given, "overlap", "vit-leep")
    results(given, "iterations", "vit-mvp-10")


def tuned(context: Context, top1: dict[str, float]) -> Context:
    """Return a context whose records of rates are these, by row."""
    common = dict.fromkeys(SAME, "same") | {"task": "a,b", "status": "ok", "dataset": "cifar100", "seed": 0}
    for row, value in top1.items():
        append_line(context.out / "trials" / "rates.jsonl", common | {"row": row, "top1": value})
    return context


def rates_of(variant: str, best: float) -> dict[str, float]:
    return {f"{variant}-lr{rate:g}": 90.0 if rate == best else 80.0 for rate in VARIANTS[variant].rates}


def test_the_best_recorded_rate_is_taken(context: Context) -> None:
    worse = dict.fromkeys(rates_of("mest", 0), 70.0)
    given = tuned(context, worse | rates_of("mest-random", 0.1) | rates_of("dlth", 0.03))
    rows = {r.name: r for r in EXPERIMENTS["table1"].rows(given)}
    assert rows["mest-100"].hyper["lr"] == 0.1
    assert rows["mest-100"].hyper["start"] == "random"
    assert rows["dlth-100"].hyper["lr"] == 0.03
    assert rows["dlth-100"].hyper["lr_from"] == "held-out training images"
    assert rows["reptile-100"].hyper["lr"] == 0.01  # no records
    assert len(EXPERIMENTS["rates"].rows(given)) == sum(len(v.rates) for v in VARIANTS.values())


def test_the_two_halves_of_growth_do_not_overlap(context: Context) -> None:
    first, second = made.halves(replace(context, scale=1.0))
    assert first
    assert second
    assert not {i.id for i in first} & {i.id for i in second}


@pytest.mark.parametrize("name", ["overlap", "neighbours", "groups", "iterations"])
def test_figures_are_drawn_from_records(name: str, context: Context) -> None:
    one = {"overlap": "random", "neighbours": "activation-2", "groups": "leep-group5-20", "iterations": "mvp-10"}[name]
    results(context, name, one)
    assert (context.out / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_baseline_trains_at_the_rate_that_its_row_has(context: Context) -> None:
    given, seen = tuned(context, rates_of("dlth", VARIANTS["dlth"].rates[1])), list[FitConfig]()

    def train(setting: object, fit: FitConfig) -> nn.Module:
        seen.append(fit)
        return nn.Identity()

    row = baseline_row(given, "dlth", "DLTH", train, {})
    assert row.run is not None
    row.run(cast(Setting, None))  # no image is looked at
    assert [(fit.lr, fit.iterations) for fit in seen] == [(VARIANTS["dlth"].rates[1], row.iterations)]
    assert row.hyper["lr"] == seen[0].lr


@pytest.mark.parametrize(("best", "shown"), [(5e-5, False), (2e-4, True)])
def test_ahnp_has_a_second_row_where_its_tuned_rate_is_not_the_papers(
    context: Context, best: float, shown: bool
) -> None:
    rows = {r.name: r for r in EXPERIMENTS["table2"].rows(tuned(context, rates_of("ahnp", best)))}
    assert ("ahnp-rate-1000" in rows) == shown
    if shown:
        assert rows["ahnp-rate-1000"].hyper["lr"] == 2e-4
