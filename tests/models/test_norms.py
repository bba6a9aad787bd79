from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from mvp_edge.build.members import build_generalists, prepare_zoo
from mvp_edge.build.pretrain import pretrain
from mvp_edge.config import BuildConfig, FitConfig, PretrainConfig, PruneSchedule
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import ImageSet, open_source
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import Base, load_base, save_base
from mvp_edge.models.norms import fold, is_folded, unfold
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.models.support import lively
from mvp_edge.training.loop import BatchSource, fit, predict
from mvp_edge.training.optimizers import make_optimizer

CPU = torch.device("cpu")


@pytest.fixture
def trained(tiny_base: Path) -> tuple[Base, nn.Module]:
    return load_base(str(tiny_base))


@pytest.fixture
def train(images: Path) -> ImageSet:
    return open_source(str(images)).load(None, "train", (32, 32))


@pytest.fixture
def folded_file(trained: tuple[Base, nn.Module], tmp_path: Path) -> Path:
    base, model = trained
    save_base(fold(model), base, tmp_path / "folded.safetensors")
    return tmp_path / "folded.safetensors"


def test_folded_norms_are_noticed(trained: tuple[Base, nn.Module]) -> None:
    _, model = trained
    assert not is_folded(model)
    assert is_folded(fold(copy.deepcopy(model)))
    assert is_folded(fold(copy.deepcopy(model)).half().float())  # as files in half precision have them


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_a_new_network_and_one_without_batch_norms_are_not_folded(name: str) -> None:
    assert not is_folded(new_model(name, 3))


@pytest.mark.parametrize("field", ["running_mean", "running_var", "weight"])
def test_one_channel_that_is_normalised_tells_that_norms_are_not_folded(
    trained: tuple[Base, nn.Module], field: str
) -> None:
    model = fold(trained[1])
    last = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    with torch.no_grad():
        getattr(last, field)[3] += 0.1
    assert not is_folded(model)


@pytest.mark.parametrize("name", ["resnetv2_50", "densenet121", "test_efficientnet"])
def test_folding_changes_nothing_where_norms_come_before_convolutions(name: str) -> None:
    model = timm.create_model(name, num_classes=3).eval()
    image = torch.randn(2, 3, 64, 64)
    model = lively(model, image)
    folded = fold(copy.deepcopy(model))
    with torch.no_grad():
        torch.testing.assert_close(folded(image), model(image), rtol=1e-3, atol=1e-3)
    changed = [torch.equal(a, b) for a, b in zip(folded.parameters(), model.parameters(), strict=True)]
    assert not all(changed)


def test_a_convolution_s_own_bias_takes_that_of_the_norm() -> None:
    model = lively(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), torch.randn(4, 3, 8, 8))
    image = torch.randn(2, 3, 8, 8)
    folded = fold(copy.deepcopy(model), (8, 8))
    torch.testing.assert_close(folded(image), model(image))
    norm = folded.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d) and not norm.bias.any()


def test_unfolding_changes_nothing_that_the_network_computes(
    trained: tuple[Base, nn.Module], train: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, original = trained
    model = fold(copy.deepcopy(original))
    before = predict(model, train.images, base, CPU)
    torch.testing.assert_close(before, predict(original, train.images, base, CPU), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("mvp_edge.models.norms.forward_batch", lambda _: 20)  # three parts, the last one smaller
    unfold(model, train.images, base, CPU)
    assert not is_folded(model)
    torch.testing.assert_close(predict(model, train.images, base, CPU), before, rtol=1e-4, atol=1e-4)


def test_unfolding_measures_what_runs_through_each_norm(trained: tuple[Base, nn.Module], train: ImageSet) -> None:
    base, model = trained
    unfold(fold(model), train.images, base, CPU)
    seen = {}
    for name, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[0]))
    predict(model, train.images, base, CPU)
    for name, x in seen.items():
        norm = model.get_submodule(name)
        assert isinstance(norm.running_mean, torch.Tensor) and isinstance(norm.running_var, torch.Tensor)
        torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(norm.running_var, x.var((0, 2, 3), unbiased=False), rtol=1e-3, atol=1e-5)


def test_an_unfolded_network_in_training_computes_what_it_does_in_evaluation(
    trained: tuple[Base, nn.Module], train: ImageSet
) -> None:
    base, model = trained
    fold(model)
    images = (train.images.float() / 255 - 0.5) / 0.25
    expected = predict(model, train.images, base, CPU)

    def off() -> float:
        with torch.no_grad():
            return float((copy.deepcopy(model).train()(images) - expected).abs().mean())

    ruined = off()
    unfold(model, train.images, base, CPU)
    assert off() < 0.01 * ruined


def test_training_of_folded_norms_is_refused(trained: tuple[Base, nn.Module], train: ImageSet) -> None:
    base, model = trained
    fold(model)
    config = FitConfig(iterations=1, batch_size=8)
    with pytest.raises(ConfigError, match="zoo build.*pretrain --init"):
        fit(model, BatchSource(train, base, config, CPU, 0), config, optimizer=make_optimizer(model, config))


def test_a_zoo_of_a_folded_base_has_norms_measured_anew(folded_file: Path, images: Path, tmp_path: Path) -> None:
    base, model = load_base(str(folded_file))
    source, silent = open_source(str(images)), SilentProgress()
    data = source.load(None, "test", base.input_size)
    before = predict(model, data.images, base, CPU)
    zoo, notes = prepare_zoo(tmp_path / "zoo", base, model, source, device=CPU, progress=silent)
    assert "measured anew on 48 images" in notes[0]
    stored = zoo.load_base()
    assert not is_folded(stored)
    assert base.sha256[:12] in zoo.base.recipe
    assert (predict(stored, data.images, base, CPU).argmax(1) == before.argmax(1)).all()  # it is packed in eight bits
    config = BuildConfig(
        members=0, schedule=PruneSchedule(channel_multiple=4), generalist_fit=FitConfig(iterations=2, batch_size=8)
    )
    prunable = PrunableModel.of(zoo.base, stored)
    (member,) = build_generalists(zoo, prunable, source, [0.5], config, device=CPU, progress=silent)
    assert member.base_sha256 == zoo.base.sha256 != base.sha256

    again, notes = prepare_zoo(zoo.path, *load_base(str(folded_file)), source, device=CPU, progress=silent)
    assert (again.base, notes, again.ids()) == (zoo.base, [], [member.id])
    other, weights = load_base(str(folded_file))
    with pytest.raises(ZooError, match="choose another directory"):
        prepare_zoo(zoo.path, replace(other, sha256="0" * 64), weights, source, device=CPU, progress=silent)


def test_a_base_whose_norms_are_fine_is_taken_as_it_is(tiny_base: Path, images: Path, tmp_path: Path) -> None:
    base, model = load_base(str(tiny_base))
    source = open_source(str(images))
    zoo, notes = prepare_zoo(tmp_path / "zoo", base, model, source, device=CPU, progress=SilentProgress())
    assert notes == []
    assert zoo.base.recipe == base.recipe


def test_pretraining_from_folded_weights_measures_norms_first(folded_file: Path, images: Path, tmp_path: Path) -> None:
    fitting = FitConfig(batch_size=24, lr=1e-5, crop=0)
    out = tmp_path / "base.safetensors"
    config = PretrainConfig("timm:test_resnet", str(images), out, epochs=2, fit=fitting, init=folded_file)
    result = pretrain(replace(config, device="cpu"), SilentProgress())
    assert "were measured anew" in result["warnings"][0]
    assert not is_folded(load_base(str(out))[1])


@pytest.mark.usefixtures("without_doubles")
def test_norms_are_measured_on_devices_of_single_precision(trained: tuple[Base, nn.Module], train: ImageSet) -> None:
    base, model = trained
    unfold(fold(model), train.images, base, CPU)
    assert not is_folded(model)


def test_folding_keeps_what_a_network_computes() -> None:
    network = timm.create_model("mobilenetv2_050", num_classes=4).eval()
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias)
    images = torch.randn(2, 3, 64, 64)
    before = network(images)
    fold(network)
    assert is_folded(network)
    assert torch.allclose(network(images), before, atol=1e-4)
