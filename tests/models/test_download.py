"""Where timm's weights come from, and what is said where there are none."""

from __future__ import annotations

import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from mvp_edge.core.errors import ConfigError
from mvp_edge.models.bases import load_base, save_base
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

    monkeypatch.setattr("mvp_edge.models.download.require_network", lambda _: None)
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
