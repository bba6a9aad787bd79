"""What the measurements compute without training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import RESNET_ZOO
from benchmarks.cost import CostMeter
from benchmarks.measurements import imbalance, plain, population, precision, published
from mvp_edge.data import ImageSet
from mvp_edge.export import export_onnx
from mvp_edge.models.macs import count_params
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.member import Outputs
from mvp_edge.zoo.store import open_zoo


def outputs(logits: torch.Tensor) -> Outputs:
    """Outputs of four images of each class."""
    return Outputs(logits, torch.arange(logits.shape[1]).repeat_interleave(4))


def test_a_network_that_is_always_right_is_so_on_every_list() -> None:
    assert np.all(population.accuracies(outputs(torch.eye(10).repeat_interleave(4, 0)), 5, 20, 0) == 100)


def test_only_the_classes_of_a_list_compete() -> None:
    # Class 9 draws all images to itself; lists without it have no error.
    logits = torch.eye(10).repeat_interleave(4, 0)
    logits[:, 9] = 2
    found = population.accuracies(outputs(logits), 2, 400, 0)
    assert set(found.tolist()) == {50.0, 100.0}
    assert np.mean(found == 50) == pytest.approx(0.2, abs=0.06)  # two of ten classes are drawn
    assert np.array_equal(found, population.accuracies(outputs(logits), 2, 400, 0))
    assert not np.array_equal(found, population.accuracies(outputs(logits), 2, 400, 1))


def test_a_precision_is_compared_on_the_images_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "ROUNDS", 1)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    norm, images = (0.5, 0.5, 0.5), torch.arange(768 * 2).reshape(2, 3, 16, 16).byte()
    export_onnx(net, file := tmp_path / "a.onnx", input_size=(16, 16), mean=norm, std=norm, labels="ab", metadata={})
    (only,) = precision.try_precisions(file, "fp32", None, ImageSet(images, torch.arange(2), ("a", "b")), 0)
    full, small = precision.try_precisions(file, "fp16", None, ImageSet(images, torch.arange(2), ("a", "b")), 0)
    assert (only.top1, only.bytes, full.bytes) == (None, None, file.stat().st_size)
    assert small.kept and small.top1 == full.top1 is not None and small.latency_ms is not None


@pytest.mark.parametrize("name", published.PUBLISHED)
def test_networks_are_those_that_were_published(name: str) -> None:
    make, _, mmacs = published.PUBLISHED[name]
    model = make().eval()
    with torch.no_grad(), CostMeter() as meter:
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 100)
    assert meter.macs / 1e6 == pytest.approx(mmacs, rel=0.01)
    assert count_params(model) < 3e6


@pytest.mark.parametrize("start", ["random", "magnitude"])
def test_a_plain_network_has_the_generalist_s_size_and_where_its_weights_come_from(start: plain.Start) -> None:
    zoo = open_zoo(str(RESNET_ZOO))
    small = next(i for i in zoo.infos() if i.recipe["keep"] == 0.1 and i.kind == "generalist")
    chain = plain.ancestry(zoo, small)
    assert [i.recipe["keep"] for i in chain] == [0.1, 0.2]
    assert sum(i.recipe["fit"]["iterations"] for i in chain) == 15_000
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    model = plain.begin(prunable, small.plan, start, seed=0)
    assert count_params(model) == count_params(zoo.load(small).network(prunable))
    kept = {float(row.abs().sum()) for row in prunable.model.get_parameter("conv1.weight").detach()}
    own = {float(row.abs().sum()) for row in model.get_parameter("conv1.weight").detach()}
    assert len(own) == 8 and (own <= kept) is (start == "magnitude")
    again = plain.begin(prunable, small.plan, start, seed=0)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_classes_fall_geometrically_by_the_ratio() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([90, 80, 100]))
    images = ImageSet(torch.zeros(270, 3, 4, 4, dtype=torch.uint8), labels, ("a", "b", "c"))
    wanted = imbalance.sizes(images, 4, seed=0)
    assert sorted(wanted) == [20, 40, 80]
    assert imbalance.sizes(images, 1, seed=0) == [80, 80, 80]
    assert min(imbalance.sizes(images, 1000, seed=0)) == 2
    assert imbalance.thinned(images, wanted, seed=0).labels.bincount().tolist() == wanted
