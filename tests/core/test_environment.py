from importlib.metadata import PackageNotFoundError
from io import StringIO
from types import SimpleNamespace

import pytest
import torch

from mvp_edge.core.environment import environment, own_version


def test_the_environment_names_processor_and_card(monkeypatch: pytest.MonkeyPatch) -> None:
    own = environment(torch.device("cpu"))
    assert "accelerator" not in own
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=8))
    found = environment(torch.device("cuda"))
    assert (found["accelerator"], found["processor"]) == ("a card", own["processor"])


def test_a_source_tree_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("mvp_edge.core.environment.version", missing)
    assert own_version() == "0"


def test_the_environment_names_what_matters() -> None:
    found = environment(torch.device("cpu"))
    assert {"python", "torch_threads", "processor", "packages"} <= found.keys()
    assert "torch" in found["packages"]


def test_a_processor_may_have_a_colon_in_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "processor\t: 0\nmodel name\t: ACME: the fast one\n"
    monkeypatch.setattr("builtins.open", lambda *_, **__: StringIO(listed))
    assert environment(torch.device("cpu"))["processor"] == "ACME: the fast one"
