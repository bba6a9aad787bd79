"""The rivals at equal latency, with random weights and images of 16 pixels."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks.__main__ import carry_out
from benchmarks.baselines import off_the_shelf
from benchmarks.baselines.magnitude import Magnitude, cut_by_magnitude
from benchmarks.baselines.off_the_shelf import ARCH, OffTheShelf, Resized, load
from benchmarks.experiments import rates, rivals
from benchmarks.suite.experiment import Context
from benchmarks.suite.running import cases
from mvp_edge.config import FitConfig
from mvp_edge.core.errors import ConfigError, PlanError
from mvp_edge.data import normalise
from mvp_edge.models.bases import Base
from mvp_edge.models.norms import is_folded
from mvp_edge.pruners import target_counts
from mvp_edge.training.loop import predict

KERAS = {"input": "x/127.5-1, 224x224, RGB", "pad_type": "same"}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like that of converted weights: norms folded, so that they only add a bias."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(ARCH, num_classes=7)
        for name, value in network.named_parameters():
            if "bn" in name and name.endswith("bias"):
                value.data.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("weights") / "mobile.safetensors"
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, path, KERAS)
    return path


def test_torch_pruning_keeps_the_counts_of_the_tool_and_the_largest_filters(context: Context) -> None:
    prunable = context.prunable
    before = {k: v.clone() for k, v in prunable.model.state_dict().items()}
    counts = target_counts(prunable.table, 0.3, 8)
    model = cut_by_magnitude(prunable, counts)
    assert {n: len(next(model.get_submodule(n).parameters())) for n in counts} == counts
    assert all(torch.equal(v, before[k]) for k, v in prunable.model.state_dict().items())
    again = cut_by_magnitude(prunable, counts)  # pruners of one process leave nothing to each other
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(PlanError, match="wanted"):
        cut_by_magnitude(prunable, {n: w + 1 for n, w in prunable.table.widths.items()})


def test_the_pruned_base_has_a_head_that_works_before_training(context: Context) -> None:
    [case] = cases(context, 1)
    model = Magnitude(keep=0.8, channel_multiple=1)(case.setting, FitConfig(iterations=0))
    s = case.setting
    assert (predict(model, s.train.images, s.prunable.base, s.device).argmax(1) == s.train.labels).float().mean() > 0.5


def test_images_arrive_enlarged_and_with_the_networks_own_normalisation(context: Context, weights: Path) -> None:
    theirs, network = load(weights, 32)
    assert theirs.mean == theirs.std == (0.5, 0.5, 0.5)
    assert type(network.conv_stem).__name__ == "Conv2dSame"
    ours = Base("ours", "test_resnet", (16, 16), (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    arrived = Resized(network, theirs, ours).fitted(normalise(pixels, ours.mean, ours.std))
    expected = torch.nn.functional.interpolate(pixels / 127.5 - 1, size=(32, 32), mode="bilinear")
    assert (arrived - expected).abs().max() < 1e-5


def test_folded_norms_are_measured_before_training(
    context: Context, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_folded(load(weights, 32)[1])
    [case] = cases(context, 1)
    model = OffTheShelf(weights)(case.setting, FitConfig(iterations=1, batch_size=8))
    assert not is_folded(model)
    assert isinstance(model, Resized)
    assert model.get_classifier().out_features == 5
    monkeypatch.setattr(off_the_shelf, "unfold", lambda *args: None)
    with pytest.raises(ConfigError, match="folded"):
        OffTheShelf(weights)(case.setting, FitConfig(iterations=1, batch_size=8))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"classifier.bias": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match="tensors are missing"):
        load(path, 32)


def test_the_table_shows_accuracy_beside_latency(
    context: Context, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "ROUNDS", 2)
    monkeypatch.setattr(rivals, "KEEPS", (0.1,))
    monkeypatch.setattr(rivals, "PIXELS", (32,))
    given = replace(context, tasks=1, folders={ARCH: weights})
    carry_out(rivals.EXPERIMENT, given)
    lines = given.store.lines("rivals")
    assert [line["row"] for line in lines] == [
        "latency", "tool-0.1", "magnitude-0.1", "magnitude-distill-0.1", "mobilenetv2-32",
    ]  # fmt: skip
    assert {line["status"] for line in lines} == {"ok"}, [line["reason"] for line in lines]
    notes = lines[0]["notes"]
    assert notes["tool-0.1/ratio"] == 1
    assert notes["magnitude-0.1/mmacs"] == notes["tool-0.1/mmacs"] < notes["mobilenetv2-32/mmacs"]
    assert notes["mobilenetv2-32/ms"] > notes["tool-0.1/ms"] > 0
    shown = rivals.table(lines, given.store.trials("rivals"))
    assert len(shown) == 2 + len(lines) - 1
    assert f"| {notes['mobilenetv2-32/ms']:.3f} |" in shown[-1]
    assert len({row.count("|") for row in shown}) == 1
    carry_out(rivals.EXPERIMENT, given)  # nothing is timed or trained twice
    assert len(given.store.trials("rivals")) == len(lines)


def test_rates_of_the_rivals_come_from_held_out_images(context: Context) -> None:
    assert rates.chosen(context, "magnitude") == {"lr": 0.03, "lr_from": "the tool's"}
    given = replace(context, tasks=1, methods=frozenset(["magnitude"]))
    carry_out(rates.EXPERIMENT, given)
    trials = given.store.trials("rates")
    assert {t["hyper"]["split"] for t in trials} == {"held-out"}
    assert {t["status"] for t in trials} == {"ok"}
    best = next(t for t in trials if t["hyper"]["lr"] == 0.003)
    given.store.add("rates", json.loads(json.dumps(best | {"top1": 100.0})))
    for other in (t for t in trials if t is not best):
        given.store.add("rates", other | {"top1": 0.0})
    assert rates.chosen(given, "magnitude") == {"lr": 0.003, "lr_from": "held-out training images"}
    alone = next(t for t in trials if t["hyper"]["lr"] == 0.1) | {"task": "a hard task that no other rate was tried on"}
    for top1 in (0.0, 300.0):
        given.store.add("rates", alone | {"top1": top1})
        assert rates.chosen(given, "magnitude")["lr"] == 0.003
    row = next(r for r in rivals.rows(given) if r.name == "magnitude-0.1")
    assert row.hyper["lr"] == 0.003
    assert "weights are not at hand" in next(r for r in rivals.rows(given) if r.name == "mobilenetv2-64").missing
