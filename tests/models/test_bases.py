"""What is known of base models, and files of their weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmarks import RESNET_ZOO, VIT_ZOO
from mvp_edge.core.errors import ConfigError
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import REGISTRY, find_base, labelled, load_base
from mvp_edge.zoo.store import open_zoo
from tests.conftest import COLOURS


def test_no_network_is_made_to_count_outputs_that_have_names(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(
        "mvp_edge.models.bases.new_model", lambda arch, classes: made.append(classes) or new_model(arch, classes)
    )
    load_base(str(tiny_base))
    assert set(made) == {len(COLOURS)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet-of-mine", "is unknown; use resnet18-cifar100, vit-cifar100, timm:NAME"),
        ("timm:resnet17", "timm has no model called 'resnet17'; did you mean resnet1"),
        ("none.safetensors", "does not exist"),
    ],
)
def test_names_that_are_none(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_base(name)


def test_a_timm_model_of_other_than_rgb_images(monkeypatch: pytest.MonkeyPatch) -> None:
    told = timm.get_pretrained_cfg("test_resnet")
    assert told is not None
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda _: replace(told, input_size=(12, 64, 64)))
    with pytest.raises(ConfigError, match="12 channels"):
        find_base("timm:test_resnet")


@pytest.mark.parametrize(("outputs", "first"), [(1000, "n01440764"), (11821, "n00005787"), (21841, "n00004475")])
def test_label_sets_of_imagenet(outputs: int, first: str) -> None:
    base = labelled(find_base("timm:test_resnet"), outputs)
    assert len(base.classes) == outputs and base.classes[0] == first
    named = replace(base, classes=("cat", "dog"))
    assert labelled(named, 2) is named


def test_labels_that_are_unknown() -> None:
    with pytest.raises(ConfigError, match="7 outputs"):
        labelled(find_base("timm:test_resnet"), 7)


def test_weights_of_another_architecture(tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match=r"test_resnet.*test_convnext.*--base"):
        load_base("timm:test_convnext", tiny_base)


def test_a_file_has_its_own_weights(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--weights .*other\.safetensors"):
        load_base(str(tiny_base), tmp_path / "other.safetensors")


@pytest.mark.parametrize("meta", ['{"format": 1, "classes": []}', "[]", "{"])
def test_a_file_of_ours_that_is_no_base(tmp_path: Path, meta: str) -> None:
    file = tmp_path / "pictures.safetensors"
    save_file({"labels": torch.zeros(1)}, file, metadata={"mvp_edge": meta})
    with pytest.raises(ConfigError, match=r"pictures\.safetensors .*pretrain"):
        load_base(str(file))


@pytest.mark.parametrize(("zoo", "least"), [(RESNET_ZOO, 70), (VIT_ZOO, 55)])
def test_the_base_of_a_zoo(zoo: str, least: float) -> None:
    base, model = load_base(zoo)
    assert len(base.classes) == 100
    assert base.top1 is not None and base.top1 >= least
    assert base.recipe and base.licence
    assert all(p.isfinite().all() for p in model.parameters())


def test_the_base_of_a_bundled_zoo(tiny_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zoos").mkdir()
    (tmp_path / "zoos" / "tiny").symlink_to(tiny_zoo)
    monkeypatch.setattr("mvp_edge.models.bases.ASSETS", tmp_path)
    assert load_base("tiny")[0] == load_base(str(tiny_zoo))[0] == open_zoo(str(tiny_zoo)).base


@pytest.mark.parametrize("name", REGISTRY)
def test_a_registered_base_has_no_weights_and_says_where_to_get_them(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"pretrain --base {name} .*or a zoo of that base"):
        load_base(name)
