"""A result directory as `prune` leaves it, made in a second from the tiny base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mvp_edge.export import export_onnx
from mvp_edge.export.classifier import Interface, read_interface
from mvp_edge.models.bases import load_base
from mvp_edge.zoo.store import create_zoo, open_zoo
from tests.report.example import example_report

LABELS = ("apple", "chair", "crab", "plain", "rose", "tiger")


@pytest.fixture(scope="session")
def base_zoo(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a zoo without members, whose base is the tiny one."""
    return create_zoo(tmp_path_factory.mktemp("zoo") / "own", *load_base(str(tiny_base))).path


@pytest.fixture(scope="session")
def made_result(base_zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Result directory whose network is the tiny base itself. Copy it before you change it."""
    out = tmp_path_factory.mktemp("made") / "result"
    out.mkdir()
    zoo = open_zoo(str(base_zoo))
    base, model = zoo.base, zoo.load_base()
    export_onnx(
        model, out / "model.onnx", input_size=base.input_size, mean=base.mean, std=base.std, labels=LABELS, metadata={}
    )  # fmt: skip
    (out / "labels.txt").write_text("".join(f"{name}\n" for name in LABELS))
    (out / "plan.json").write_text(json.dumps({"base": base.to_json(), "groups": []}))
    report = example_report() | {"zoo": "own"}
    (out / "report.json").write_text(json.dumps(report))
    return out


@pytest.fixture
def result(made_result: Path, tmp_path: Path) -> Path:
    """A result directory of one's own."""
    return Path(shutil.copytree(made_result, tmp_path / "result"))


@pytest.fixture
def interface(result: Path) -> Interface:
    """What the result's model takes and gives."""
    return read_interface(result / "model.onnx")
