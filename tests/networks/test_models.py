"""Where the weights of a base model come from, and what is said where there are none."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import save_file

from mvp_edge.errors import ConfigError
from mvp_edge.networks.models import find_base, head_name, head_of, load_base, new_model, save_base
from tests.conftest import COLOURS


def test_offline_the_cache_and_the_flag_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(hub, "propagate", True)
    level = hub.level

    def offline(repository: str, file: str, local_files_only: bool = False) -> str:
        assert (repository, file) == ("timm/mobilenetv2_100.ra_in1k", "model.safetensors")
        assert local_files_only, "a download was tried where the site cannot be reached"
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 8s")
        raise LocalEntryNotFoundError("no network")

    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{closed}")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ConfigError, match=r"not in the cache .*hub and cannot be downloaded .*--weights FILE"):
        load_base("timm:mobilenetv2_100")
    assert not caplog.records
    assert hub.level == level


@pytest.mark.parametrize("error", [*HfHubHTTPError.__bases__, OSError])
def test_a_connection_that_breaks_off(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: str, local_files_only: bool = False) -> str:
        raise LocalEntryNotFoundError("not in the cache") if local_files_only else error("connection reset")

    monkeypatch.setattr("mvp_edge.networks.models._require_network", lambda _: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ConfigError, match=rf"cannot be downloaded \({error.__name__}\)"):
        load_base("timm:test_resnet")


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(503)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_site_that_answers_is_asked_for_the_weights(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, file: str, local_files_only: bool = False) -> str:
        asked.append(local_files_only)
        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        return str(tiny_base)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.handle_request).start()
        load_base("timm:test_resnet")
    assert asked == [True, False]


def test_timm_weights_are_read_as_safetensors(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, model = load_base(str(tiny_base))
    save_base(model, base, tmp_path / "model.safetensors")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "model.safetensors"))
    found, _ = load_base("timm:test_resnet")
    assert found.classes == tuple(COLOURS)


def test_no_network_is_made_to_count_outputs_that_have_names(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(
        "mvp_edge.networks.models.new_model", lambda arch, classes: made.append(classes) or new_model(arch, classes)
    )
    load_base(str(tiny_base))
    assert made == [len(COLOURS)]


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
    with pytest.raises(ConfigError, match="takes images of 12 channels; use a model of RGB images"):
        find_base("timm:test_resnet")


def test_weights_of_another_architecture(tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds weights for test_resnet, but timm:test_convnext needs test_convnext"):
        load_base("timm:test_convnext", tiny_base)


def test_a_file_has_its_own_weights(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds its own weights, and --weights names others .*other.safetensors"):
        load_base(str(tiny_base), tmp_path / "other.safetensors")


@pytest.mark.parametrize("meta", ['{"format": 1, "classes": []}', "[]", "{"])
def test_a_file_of_ours_that_is_no_base(tmp_path: Path, meta: str) -> None:
    file = tmp_path / "exemplars.safetensors"
    save_file({"labels": torch.zeros(1)}, file, metadata={"mvp_edge": meta})
    with pytest.raises(ConfigError, match=r"exemplars.safetensors describes no base model .*mvp-edge pretrain"):
        load_base(str(file))


@pytest.mark.parametrize(("name", "least"), [("resnet18-cifar100", 70), ("vit-cifar100", 55)])
def test_bundled_bases(name: str, least: float) -> None:
    base, model = load_base(name)
    assert len(base.classes) == 100
    assert base.top1 is not None and base.top1 >= least
    assert base.recipe and base.licence
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_registered_base_without_weights_says_how_to_train_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mvp_edge.networks.models.BUNDLED", {})
    with pytest.raises(ConfigError, match=r"train them with mvp-edge pretrain --base vit-cifar100"):
        load_base("vit-cifar100")


def test_the_classifier_is_found_or_missed() -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    assert head_name(model) == "fc" and head_of(model).out_features == 3
    with pytest.raises(ConfigError, match="no single linear classifier"):
        head_of(timm.create_model("test_resnet", num_classes=0))
