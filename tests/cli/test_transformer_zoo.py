"""A zoo of vision transformers from the command line, from its base to delivered files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mvp_edge.config import FitConfig
from mvp_edge.data import open_source
from mvp_edge.export import take_inventory
from mvp_edge.models.architectures import ARCHITECTURES, new_model
from mvp_edge.models.bases import save_base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.training.loop import BatchSource, fit
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.zoo.store import open_zoo
from tests.bases import small_base
from tests.transformers import SIZE, small_vit

from .conftest import Run, run_in

ARCH = "vit-for-tests"


@pytest.fixture(scope="module", autouse=True)
def arch() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, ARCH, lambda n: small_vit(num_classes=n))
        yield


@pytest.fixture(scope="module")
def vit_base(arch: None, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a base that has seen the six classes for a second."""
    base = small_base(ARCH, SIZE, "vit")
    data = open_source(str(images)).load(None, "train", SIZE)
    model = new_model(ARCH, len(data.classes))
    config = FitConfig(iterations=20, batch_size=16, lr=0.003)
    source = BatchSource(data, base, config, torch.device("cpu"), 0)
    fit(model, source, config, optimizer=make_optimizer(model, config))
    path = tmp_path_factory.mktemp("vit") / "base.safetensors"
    save_base(model, replace(base, classes=data.classes), path)
    return path


@pytest.fixture(scope="module", params=["whole", "pruned"])
def vit_zoo(request: Any, vit_base: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a zoo with a generalist and two specialists, made by the command."""
    where = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        done = run_in(where, patch)(
            "zoo",
            "build",
            "vits",
            "--base",
            vit_base,
            "--data",
            images,
            "--embedding",
            request.param,
            "--ways",
            2,
            "--members",
            2,
            "--keep",
            0.4,
            "--generalist",
            0.7,
            "--iterations",
            6,
            "--generalist-iterations",
            6,
            "--lr",
            0.003,
            "--batch-size",
            8,
            "--json",
        )
    assert done.code == 0, done.err
    return where / "vits"


def test_names_alone(run: Run, task: Path, vit_zoo: Path, fake_ort_web: Path) -> None:
    done = run("prune", "--task", task, "--zoo", vit_zoo, "--keep", 0.7, "--json")
    assert done.code == 0, done.err
    report = done.json
    assert report == json.loads(Path("out/report.json").read_text())
    assert report["sliced_vs_masked_max_abs_diff"] <= 1e-5
    assert "stored outputs" in report["accuracy"]["source"]
    found = take_inventory(Path("out/model.onnx"))
    assert found.largest_rank == report["largest_rank"] == 4
    assert found.operators == report["operators"]
    for words in (["android"], ["web", "--ort-web", fake_ort_web, "--with-dense", "--zoo", vit_zoo]):
        done = run("export", "out", "--target", *words)
        assert done.code == 0, done.err
    assert list(Path("out").rglob("*.ort"))
    assert "no tensor has more than 4 dimensions" in Path("out/report.html").read_text()


@pytest.mark.parametrize(
    "more", [["--keep", 0.7], ["--voters", "any", "--keep", 0.4, "--precision", "fp16"], ["--max-macs", 700000]]
)
def test_with_images(run: Run, task: Path, vit_zoo: Path, images: Path, more: list[Any]) -> None:
    words = ["prune", "--task", task, "--zoo", vit_zoo, "--data", images, "--json", "--iterations", 3]
    done = run(*words, "--batch-size", 8, "--schedule", "fixed", "--neighbours", 2, *more)
    assert done.code == 0, done.err
    report = done.json
    assert report["sliced_vs_masked_max_abs_diff"] <= 1e-5
    plan = json.loads(Path("out/plan.json").read_text())
    counts = {g["name"]: g["count"] for g in plan["groups"]}
    assert ("patch_embed.proj" in counts) == (open_zoo(str(vit_zoo)).base.embedding == "pruned")
    assert min(counts.values()) >= 1
    assert report["keep"]["achieved"] < 1
    if "--max-macs" in more:
        assert report["macs"] <= 0.7e6


def test_another_choice_for_the_embedding_is_refused(run: Run, vit_zoo: Path, images: Path) -> None:
    zoo = open_zoo(str(vit_zoo))
    other = "pruned" if zoo.base.embedding == "whole" else "whole"
    message = run("zoo", "build", vit_zoo, "--data", images, "--embedding", other).error()
    assert f"--embedding {zoo.base.embedding}" in message
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    for info in zoo.infos():
        logits = zoo.load(info).network(prunable)(torch.zeros(1, 3, *SIZE))
        assert logits.shape == (1, len(info.task.classes)) and np.isfinite(logits.detach().numpy()).all()
