"""The baselines at equal latency, with random weights and images of 16 pixels."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks.baselines import off_the_shelf
from benchmarks.baselines.magnitude import Magnitude, cut_by_magnitude
from benchmarks.baselines.off_the_shelf import ARCH, OffTheShelf, Resized, load
from benchmarks.experiments import baselines, rates
from benchmarks.records import append_line
from benchmarks.setting import Setting
from benchmarks.suite import Context, carry_out
from benchmarks.tables.papers import table
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


def test_the_pruned_base_has_a_head_that_works_before_training(setting: Setting) -> None:
    s = setting
    model = Magnitude(keep=0.8, channel_multiple=1)(s, FitConfig(iterations=0))
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
    setting: Setting, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_folded(load(weights, 32)[1])
    model = OffTheShelf(lambda: weights)(setting, FitConfig(iterations=1, batch_size=8))
    assert not is_folded(model)
    assert isinstance(model, Resized)
    assert model.get_classifier().out_features == 5
    monkeypatch.setattr(off_the_shelf, "unfold", lambda *args: None)
    with pytest.raises(ConfigError, match="folded"):
        OffTheShelf(lambda: weights)(setting, FitConfig(iterations=1, batch_size=8))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"classifier.bias": torch.zeros(3)}, path)
    with pytest.raises(ConfigError, match="tensors are missing"):
        load(path, 32)


def test_the_table_shows_accuracy_beside_latency(
    context: Context, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "ROUNDS", 2)
    monkeypatch.setattr(baselines, "KEEPS", (0.1,))
    monkeypatch.setattr(baselines, "PIXELS", (32,))
    given = replace(context, tasks=1, folders={ARCH: weights})
    rows = ["latency", "prune-0.1", "magnitude-0.1", "magnitude-distill-0.1", "mobilenetv2-32"]
    assert carry_out(baselines.EXPERIMENT, given) == {}
    trials = given.trials("baselines")
    assert [t["row"] for t in trials] == [rows[0], *rows[2:]]  # ours are among the ablations
    notes = trials[0]["notes"]
    assert notes["tool-0.1/ratio"] == 1
    assert notes["magnitude-0.1/mmacs"] == notes["tool-0.1/mmacs"] < notes["mobilenetv2-32/mmacs"]
    assert notes["mobilenetv2-32/ms"] > notes["tool-0.1/ms"] > 0
    append_line(given.out / "trials" / "ablations.jsonl", trials[1] | {"row": "generalist-rate", "top1": 12.5})
    shown = table("baselines", given.out).split("\n\n")[0].splitlines()
    assert len(shown) == 2 + len(rows) - 1
    assert "| 12.50 |" in shown[2]
    assert f"| {notes['tool-0.1/ms']:.3f} |" in shown[2]
    assert f"| {notes['mobilenetv2-32/ms']:.3f} |" in shown[-1]
    assert len({row.count("|") for row in shown}) == 1
    carry_out(baselines.EXPERIMENT, given)  # nothing is timed or trained twice
    assert len(given.trials("baselines")) == len(trials)


def test_rates_of_the_baselines_come_from_held_out_images(context: Context) -> None:
    assert rates.chosen(context, "magnitude") == {"lr": 0.03, "lr_from": "the tool's"}
    given = replace(context, tasks=1, methods=frozenset(["magnitude"]))
    carry_out(rates.EXPERIMENT, given)
    trials, path = given.trials("rates"), given.out / "trials" / "rates.jsonl"
    assert {t["hyper"]["split"] for t in trials} == {"held-out"}
    assert {t["status"] for t in trials} == {"ok"}
    best = next(t for t in trials if t["hyper"]["lr"] == 0.003)
    append_line(path, best | {"top1": 100.0})
    for other in (t for t in trials if t is not best):
        append_line(path, other | {"top1": 0.0})
    assert rates.chosen(given, "magnitude") == {"lr": 0.003, "lr_from": "held-out training images"}
    alone = next(t for t in trials if t["hyper"]["lr"] == 0.1) | {"task": "a hard task that no other rate was tried on"}
    for top1 in (0.0, 300.0):
        append_line(path, alone | {"top1": top1})
        assert rates.chosen(given, "magnitude")["lr"] == 0.003
    row = next(r for r in baselines.rows(given) if r.name == "magnitude-0.1")
    assert row.hyper["lr"] == 0.003
    with pytest.raises(ConfigError, match="weights are not at hand"):
        rates.weights(given)
