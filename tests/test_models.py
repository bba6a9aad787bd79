"""Where the weights of a base model come from, and what is said where there are none."""

from __future__ import annotations

import logging
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mvp_edge.errors import ConfigError
from mvp_edge.models import load_base, save_base
from tests.conftest import COLOURS


def test_offline_the_cache_and_the_flag_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(hub, "propagate", True)
    level = hub.level

    def offline(repository: str, file: str) -> str:
        assert (repository, file) == ("timm/mobilenetv2_100.ra_in1k", "model.safetensors")
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 8s")
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ConfigError, match=r"not in the cache .*hub and cannot be downloaded .*--weights FILE"):
        load_base("timm:mobilenetv2_100")
    assert not caplog.records
    assert hub.level == level


def test_timm_weights_are_read_as_safetensors(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, model = load_base(str(tiny_base))
    save_base(model, base, tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: str(tmp_path / "model.safetensors"))
    found, _ = load_base("timm:test_resnet")
    assert found.classes == tuple(COLOURS)


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


def test_weights_of_another_architecture(tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds weights for test_resnet, but timm:test_convnext needs test_convnext"):
        load_base("timm:test_convnext", tiny_base)
