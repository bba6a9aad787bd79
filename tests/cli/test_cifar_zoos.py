"""The zoos of CIFAR-100 work as they lie in the repository: no data, no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import RESNET_ZOO, VIT_ZOO
from mvp_edge.zoo.store import open_zoo

from .conftest import Run

FRUIT = ("apple", "orange", "pear", "mushroom", "sweet_pepper")


@pytest.mark.parametrize("name", [RESNET_ZOO, VIT_ZOO])
def test_a_class_list_alone_is_enough(run: Run, tmp_path: Path, name: str) -> None:
    task = tmp_path / "fruit.txt"
    task.write_text("\n".join(FRUIT))
    done = run("prune", "--task", task, "--zoo", name, "--json")
    assert done.code == 0, done.err
    report = done.json
    assert report["accuracy"]["n"] == 500
    assert report["accuracy"]["top1"] > 80
    assert report["sliced_vs_masked_max_abs_diff"] <= 1e-5
    assert report["parity_max_abs_diff"] <= 1e-4
    assert report["largest_rank"] <= 4
    assert report["unprunable_macs"] < report["macs"] < report["base_macs"] / 7
    assert json.loads(Path("out/plan.json").read_text())["groups"]
    (voter,) = report["voters"]
    words = ("neighbours", "--task", task, "--zoo", name, "--top", 1)
    assert run(*words, "--json").json["voters"] == [voter["id"]]
    assert f"{voter['id']} is the only voter in `prune`" in run(*words).out


@pytest.mark.parametrize("name", [RESNET_ZOO, VIT_ZOO])
def test_it_is_what_it_says_it_is(name: str) -> None:
    zoo = open_zoo(name)
    members = zoo.infos()
    assert zoo.base.name and zoo.base.licence and zoo.base.recipe
    assert sum(i.kind == "generalist" for i in members) >= 3
    assert sum(i.kind == "specialist" for i in members) >= 25
    generalist = sorted((i for i in members if i.kind == "generalist"), key=lambda i: i.plan.achieved)
    assert [i.top1 for i in generalist] == sorted(i.top1 or 0 for i in generalist), "a larger member is worth its size"
    assert all(i.top1 is not None and i.recipe["data"] == "cifar100" for i in members)
    assert zoo.verify() == []
