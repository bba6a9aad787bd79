"""Names and photographs on a base of timm with weights of its own, from a local file."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torch import nn

from mvp_edge.config import Budget, FitOverrides, PruneConfig
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.models.support import lively
from mvp_edge.names.base_classes import resolve_to_base
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.names.wordnet import resolve_names
from mvp_edge.prune.base_zoo import folded_copy, pixels_of, zoo_of_base
from mvp_edge.prune.job import compress
from mvp_edge.prune.photographs import require_trainable
from mvp_edge.zoo.bodies import open_bodies
from tests.conftest import COLOURS

NOUNS = Task(tuple(map(TaskClass, ("espresso", "bicycle", "dog"))))
SILENT = SilentProgress()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, probe_cache: Path) -> None:
    monkeypatch.setattr("mvp_edge.prune.named.PATIENCE_S", 0.05)
    monkeypatch.setattr("mvp_edge.prune.base_zoo.SHARES", (1, 2 / 7))
    monkeypatch.setenv("MVP_EDGE_CACHE", str(probe_cache))


def checkpoint(path: Path, arch: str, classes: int = 1000) -> tuple[Path, Any]:
    """Write a network with random weights and norms as timm stores it, and return the file and the network."""
    torch.manual_seed(0)
    network: Any = timm.create_model(arch, num_classes=classes).eval()
    network = lively(network, torch.randn(4, 3, *network.pretrained_cfg["input_size"][1:])).float()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, path)
    return path, network


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return checkpoint(tmp_path_factory.mktemp("weights") / "resnet.safetensors", "test_resnet")


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    return checkpoint(tmp_path_factory.mktemp("weights") / "vit.safetensors", "test_vit")


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_names_alone_give_the_base_s_own_logits(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    weights, network = request.getfixturevalue(name)
    report = compress(PruneConfig(NOUNS, None, tmp_path / "out", base=f"timm:test_{name}", weights=weights))
    groups = resolve_to_base(NOUNS, resolve_names(ImageNetInfo().label_names())).groups
    assert [len(g) for g in groups] == [1, 2, 118]
    pixels = np.random.default_rng(0).random((3, 3, 160, 160), dtype=np.float32)
    (logits,) = ort.InferenceSession(tmp_path / "out" / "model.onnx").run(None, {"image": pixels})
    cfg = network.pretrained_cfg
    shift, scale = (torch.tensor(cfg[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        whole = network((torch.from_numpy(pixels) - shift) / scale)
    expected = torch.stack([whole[:, list(g)].logsumexp(1) for g in groups], 1).numpy()
    assert np.asarray(logits) == pytest.approx(expected, abs=0.01 * float(whole.abs().max()))  # weights in half
    assert report.body is not None and report.body.pixels == report.body.base_pixels == 160
    assert report.estimate is None and report.accuracy.top1 is None and report.known is None and report.sizes == ()
    told = " ".join(report.warnings)
    assert "accuracy of timm:" in told and "unknown without pictures" in told and "no output `known`" in told
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"--base timm:test_{name} --weights {weights}" in page and "--zoo" not in page


def test_a_budget_takes_the_most_pixels_within_it(resnet: tuple[Path, Any], tmp_path: Path) -> None:
    config = PruneConfig(
        NOUNS, None, tmp_path / "out", base="timm:test_resnet", weights=resnet[0], budget=Budget(macs=20e6)
    )
    report = compress(config)
    assert report.body is not None and report.body.pixels == 32 and report.macs < report.base_macs
    assert "other sizes: --max-macs" in " ".join(report.warnings)


def test_the_zoo_is_made_once(resnet: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = zoo_of_base("timm:test_resnet", resnet[0], SILENT)
    monkeypatch.setattr("mvp_edge.prune.base_zoo._make", None)
    assert zoo_of_base("timm:test_resnet", resnet[0], SILENT) == first
    zoo = open_bodies(str(first))
    assert zoo is not None and zoo.verify() == [] and [b.pixels for b in zoo.bodies] == [160, 32]
    assert zoo.name == zoo.base == "timm:test_resnet"
    assert not list(first.parent.glob(".*"))


def test_other_code_makes_another_zoo(
    resnet: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvp_edge.prune.base_zoo.PACKAGE", tmp_path)
    monkeypatch.setattr("mvp_edge.prune.base_zoo._make", lambda place, *_: place.mkdir())
    places = set()
    for file in ("export/onnx.py", "export/body.py", "models/norms.py", "zoo/bodies.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(file)
        places.add(zoo_of_base("timm:test_resnet", resnet[0], SILENT))
    assert len(places) == 4


def test_photographs_are_learned_from(resnet: tuple[Path, Any], images: Path, tmp_path: Path) -> None:
    task = Task(tuple(map(TaskClass, COLOURS)))
    config = PruneConfig(
        task, str(images), tmp_path / "out", base="timm:test_resnet", weights=resnet[0], budget=Budget(macs=20e6),
        fit=FitOverrides(iterations=2), precision="fp32",
    )  # fmt: skip
    report = compress(config)
    assert report.accuracy.n == 24 and report.accuracy.top1 is not None and report.accuracy.top1 > 50
    assert report.known is not None and report.photographs is not None
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert record["body"]["id"] == "test_resnet-32"


def test_rewritten_attention_cannot_be_trained(vit: tuple[Path, Any], images: Path, tmp_path: Path) -> None:
    task = Task(tuple(map(TaskClass, COLOURS)))
    config = PruneConfig(task, str(images), tmp_path / "out", base="timm:test_vit", weights=vit[0])
    with pytest.raises(ConfigError, match="attn.qkv.*leave --data out"):
        compress(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arch", "first"), [("test_convnext", "stages.*gamma"), ("test_mambaout", None), ("test_resnet", None)]
)
def test_the_first_rewritten_tensor_is_named(arch: str, first: str | None, tmp_path: Path) -> None:
    weights, _ = checkpoint(tmp_path / "weights.safetensors", arch)
    zoo = open_bodies(str(zoo_of_base(f"timm:{arch}", weights, SILENT)))
    assert zoo is not None
    with pytest.raises(ConfigError, match=first) if first else nullcontext():
        require_trainable(zoo)


def test_unknown_labels(tmp_path: Path) -> None:
    weights, _ = checkpoint(tmp_path / "ten.safetensors", "test_resnet", 10)
    with pytest.raises(ConfigError, match="labels of the 10 outputs of timm:test_resnet are unknown.*zoo build"):
        zoo_of_base("timm:test_resnet", weights, SILENT)


def test_a_place_that_cannot_be_written(
    resnet: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="MVP_EDGE_CACHE"):
        zoo_of_base("timm:test_resnet", resnet[0], SILENT)


def test_a_classifier_that_is_not_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _ = checkpoint(tmp_path / "vit.safetensors", "test_vit")
    monkeypatch.setattr("mvp_edge.prune.base_zoo.LAST", "Conv")
    monkeypatch.setenv("MVP_EDGE_CACHE", str(tmp_path / "cache"))  # else it was made before
    with pytest.raises(ConfigError, match="is not its last layer"):
        zoo_of_base("timm:test_vit", weights, SILENT)


def test_sizes_that_a_network_does_not_take_are_left_out() -> None:
    assert pixels_of(timm.create_model("test_resnet").eval(), 160) == [160, 32]
    assert pixels_of(timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)).eval(), 224) == [224]


def test_norms_are_folded_only_where_nothing_changes() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2)).eval()
    network = lively(network, torch.randn(4, 3, 4, 4)).float()
    folded, image = folded_copy(network, (4, 4)), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(folded(image), network(image))
    norm = folded.get_submodule("2")
    assert isinstance(norm, nn.BatchNorm2d) and not torch.equal(norm.weight, torch.ones(4))
