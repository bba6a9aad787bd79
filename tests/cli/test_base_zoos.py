"""`prune --base`: names on the weights of a base, in place of a zoo."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from .conftest import Run


@pytest.fixture
def nouns(tmp_path: Path) -> Path:
    path = tmp_path / "classes.txt"
    path.write_text("espresso\nbicycles\ndog\n")
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=11821)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_names_on_a_base_of_imagenet_12k(run: Run, nouns: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvp_edge.prune.base_zoo.SHARES", (1,))
    words = ["prune", "--task", nouns, "--base", "timm:test_efficientnet", "--weights", weights]
    report = run(*words, "--json").json
    assert report["base"] == "timm:test_efficientnet" and report["body"]["pixels"] == 160
    standing = {n["name"]: n["classes"] for n in report["names"]}
    assert "domestic dog" in standing["dog"] and len(standing["dog"]) > 118 and "beagle" in standing["dog"]
    shown = run(*words, "--force", "--budgets", "900MMACs,950MMACs", "--out", "family")
    assert shown.code == 0 and (Path("family") / "900MMACs" / "model.onnx").is_file()
    refused = run(*words, "--task", nouns, "--keep", "0.2", "--out", "other")
    assert "pixels" in refused.usage_error()


def test_without_a_network_the_way_out_is_named(run: Run, nouns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = run("prune", "--task", nouns, "--base", "timm:resnet26d", "--quiet").error()
    assert "--weights FILE.safetensors" in error and not Path("out").exists()


def test_options_that_exclude_each_other(run: Run, nouns: Path, weights: Path) -> None:
    both = run("prune", "--task", nouns, "--base", "timm:resnet18", "--zoo", "x")
    assert "only one" in both.usage_error()
    alone = run("prune", "--task", nouns, "--weights", weights)
    assert "--base timm:NAME" in alone.usage_error()


def test_unknown_labels(run: Run, nouns: Path, tmp_path: Path) -> None:
    weights = tmp_path / "seven.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=7).state_dict(), weights)
    words = ["prune", "--task", nouns, "--base", "timm:test_efficientnet", "--weights", weights, "--quiet"]
    assert "7 outputs" in run(*words).error() and not Path("out").exists()


def test_a_zoo_of_pruned_members_is_built_of_the_same_weights(run: Run, images: Path, weights: Path) -> None:
    words = ["--base", "timm:test_efficientnet", "--weights", weights, "--data", images, "--members", 1, "--ways", 2]
    built = run("zoo", "build", "made", *words, "--keep", 0.5, "--iterations", 2, "--batch-size", 8, "--json", "-q")
    assert built.code == 0, built.err
    assert built.json["zoo"]["base"] == "timm:test_efficientnet" and len(built.json["made"]) == 1


def test_a_base_of_pretrain_names_its_classes(run: Run, task: Path, tiny_base: Path, images: Path) -> None:
    report = run("prune", "--task", task, "--base", tiny_base, "--json", "-q").json
    assert [n["classes"] for n in report["names"]] == [["tiger"], ["apple"], ["rose"]]
    score = run("eval", "out/model.onnx", "--data", images, "--json").json["accuracy"]
    assert score["top1"] > 80
