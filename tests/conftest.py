"""Small things that many tests need: coloured images, a network of 0.4 M weights, a zoo cut from it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mvp_edge.build.members import build_generalists, build_specialists
from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.deploy.ort_web import SCRIPT, WASM
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import load_base, save_base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.training.loop import BatchSource, fit
from mvp_edge.training.optimizers import make_optimizer
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo
from tests.bases import small_base
from tests.bodies import make_body_zoo

# Every worker of pytest-xdist has one core; threads of two workers on the same cores ruin each other's time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

COLOURS = {
    "apple": (200, 30, 30),
    "chair": (120, 80, 40),
    "crab": (240, 120, 60),
    "plain": (60, 180, 60),
    "rose": (220, 60, 160),
    "tiger": (240, 200, 40),
}


@pytest.fixture(autouse=True)
def short_timings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure latencies in a moment: what is tested of them is that they are there, but in the tests of `timing`."""
    if "timing" not in request.path.parts:
        monkeypatch.setattr("mvp_edge.timing.latency.PATIENCE_S", 0.3)
        monkeypatch.setattr("mvp_edge.timing.latency.SAMPLE_S", 0.01)
        monkeypatch.setattr("mvp_edge.budget.latency.ENOUGH_S", 0.02)


@pytest.fixture
def without_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse double precision to tensors that have not been brought to the CPU, as Apple's GPUs do."""
    cpu, double = Tensor.cpu, Tensor.double

    def arrive(tensor: Tensor) -> Tensor:
        arrived: Any = cpu(tensor)
        arrived.arrived = True
        return arrived

    def widen(tensor: Tensor) -> Tensor:
        if not hasattr(tensor, "arrived"):
            raise TypeError("this device has no double precision")
        return double(tensor)

    monkeypatch.setattr(Tensor, "cpu", arrive)
    monkeypatch.setattr(Tensor, "double", widen)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with 8 training and 4 test images of 16x16 pixels for each of six classes, told apart by colour."""
    root = tmp_path_factory.mktemp("data") / "colours"
    draw = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.array(colour) + draw.normal(0, 20, (16, 16, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def tiny_base(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a base model that has seen the six classes for a second or so."""
    return save_tiny_base(tmp_path_factory.mktemp("base") / "base.safetensors", images, seed=0)


@pytest.fixture(scope="session")
def tiny_zoo(tiny_base: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a zoo with three specialists. Copy it before you change it."""
    zoo = create_zoo(tmp_path_factory.mktemp("zoo") / "tiny", *load_base(str(tiny_base)))
    training = FitConfig(iterations=20, batch_size=8, lr=0.01)
    config = BuildConfig(members=3, ways=2, schedule=PruneSchedule(keep=0.5, channel_multiple=4), fit=training)
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    cpu = torch.device("cpu")
    build_specialists(zoo, prunable, open_source(str(images)), config, device=cpu, progress=SilentProgress())
    return zoo.path


@pytest.fixture(scope="session")
def probe_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache directory that tests share, so that this machine is timed once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def generalist_zoo(tiny_base: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a zoo with generalists at keep 0.75 and 0.5 and two specialists cut from the larger."""
    zoo = create_zoo(tmp_path_factory.mktemp("zoo") / "generalist", *load_base(str(tiny_base)))
    training = FitConfig(iterations=40, batch_size=16, lr=0.02, distill=0.5)
    schedule = PruneSchedule(keep=0.5, channel_multiple=4)
    config = BuildConfig(members=2, ways=2, schedule=schedule, fit=training, generalist_fit=training)
    prunable, data = PrunableModel.of(zoo.base, zoo.load_base()), open_source(str(images))
    cpu, silent = torch.device("cpu"), SilentProgress()
    build_generalists(zoo, prunable, data, [0.5, 0.75], config, device=cpu, progress=silent)
    build_specialists(zoo, prunable, data, config, device=cpu, progress=silent)
    return zoo.path


@pytest.fixture(scope="session")
def body_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a zoo of three ready-made bodies, which know colours. Copy it before you change it."""
    return make_body_zoo(tmp_path_factory.mktemp("zoo") / "bodies")


@pytest.fixture(scope="module")
def zoo(generalist_zoo: Path) -> Zoo:
    """The zoo with generalists, opened; where other tests need another zoo, they have a fixture of this name."""
    return open_zoo(str(generalist_zoo))


@pytest.fixture(scope="module")
def prunable(zoo: Zoo) -> PrunableModel:
    """The base model of that zoo with its groups."""
    return PrunableModel.of(zoo.base, zoo.load_base())


@pytest.fixture(scope="session")
def nameless_zoo(tiny_base: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a zoo whose base names no classes, as timm's do not, with a generalist at keep 0.5."""
    base, model = load_base(str(tiny_base))
    zoo = create_zoo(tmp_path_factory.mktemp("zoo") / "nameless", replace(base, classes=()), model)
    training = FitConfig(iterations=20, batch_size=16, lr=0.02)
    config = BuildConfig(schedule=PruneSchedule(channel_multiple=4), generalist_fit=training)
    prunable, data = PrunableModel.of(zoo.base, zoo.load_base()), open_source(str(images))
    build_generalists(zoo, prunable, data, [0.5], config, device=torch.device("cpu"), progress=SilentProgress())
    return zoo.path


def save_tiny_base(path: Path, images: Path, seed: int, size: tuple[int, int] = (32, 32)) -> Path:
    """Train a base model for a few steps, write it and return its path."""
    base = small_base("test_resnet", size, "timm:test_resnet", licence="Apache-2.0")
    data = open_source(str(images)).load(None, "train", base.input_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = new_model(base.arch, len(data.classes))
    config = FitConfig(iterations=40, batch_size=16, lr=0.05, warmup=0.1)
    source = BatchSource(data, base, config, torch.device("cpu"), seed)
    fit(model, source, config, optimizer=make_optimizer(model, config))
    save_base(model, replace(base, classes=data.classes), path)
    return path


@pytest.fixture
def fake_ort_web(tmp_path: Path) -> Path:
    """Directory that looks like an unpacked onnxruntime-web."""
    dist = tmp_path / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    (dist / SCRIPT).write_text("export const fake = '</script>';\n")
    (dist / WASM).write_bytes(b"\0asm fake")
    (dist.parent / "package.json").write_text('{"version": "9.9.9"}')
    return dist.parent
