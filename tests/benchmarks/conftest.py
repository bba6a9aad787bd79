"""A data set of 12 colours, a network that knows them, a zoo cut from it: enough to run every experiment in seconds."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.setting import SUPERCLASSES, Setting
from benchmarks.suite import Context, Row, make_setting, target_tasks
from mvp_edge.build.members import build_generalists, build_specialists
from mvp_edge.config import BuildConfig, FitConfig, PruneSchedule
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.models.bases import load_base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import Zoo, create_zoo, open_zoo
from tests.conftest import save_tiny_base

CLASSES = [name for names in list(SUPERCLASSES.values())[:6] for name in names[:2]]


@pytest.fixture(scope="session", autouse=True)
def float32() -> Iterator[None]:
    """Train in float32: at 16 px the last maps are 1x1, where oneDNN's bfloat16 gradients of a 3x3 kernel may be NaN.

    Seen with torch 2.14 on a processor with AMX.
    """
    with pytest.MonkeyPatch.context() as patch:  # not `use_bf16`, which other tests' commands set anew
        patch.setattr(torch.cpu, "get_capabilities", dict)
        yield


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with `cifar100`, `caltech101` and `flowers102`, all the same 12 colours."""
    root = tmp_path_factory.mktemp("sets")
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for i, name in enumerate(CLASSES):
            folder = root / "cifar100" / split / name
            folder.mkdir(parents=True)
            colour = 255 * np.array(colorsys.hsv_to_rgb(i / len(CLASSES), 0.8, 0.9))
            for k in range(count):
                pixels = colour + draw.normal(0, 15, (16, 16, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    for other in ("caltech101", "flowers102"):
        (root / other).symlink_to(root / "cifar100")
    return root


@pytest.fixture(scope="session")
def bench_zoo(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """A zoo with generalists at keep 0.5 and 0.1 and four specialists of five classes, at keep 0.1."""
    file = save_tiny_base(
        tmp_path_factory.mktemp("base") / "base.safetensors", data / "cifar100", seed=0, size=(16, 16)
    )
    zoo = create_zoo(tmp_path_factory.mktemp("zoo") / "colours", *load_base(str(file)))
    training = FitConfig(iterations=12, batch_size=16, lr=0.02, distill=0.5)
    config = BuildConfig(members=4, ways=5, schedule=PruneSchedule(keep=0.1), fit=training, generalist_fit=training)
    prunable, source = PrunableModel.of(zoo.base, zoo.load_base()), open_source(str(data / "cifar100"))
    cpu, silent = torch.device("cpu"), SilentProgress()
    build_generalists(zoo, prunable, source, [0.5, 0.1], config, device=cpu, progress=silent)
    build_specialists(zoo, prunable, source, config, device=cpu, progress=silent)
    return open_zoo(str(zoo.path))


@pytest.fixture
def context(data: Path, bench_zoo: Zoo, tmp_path: Path) -> Context:
    """All that an experiment needs, at a hundredth of its iterations, on two target tasks."""
    none = {"vit-zoo": tmp_path / "no-zoo"}  # not the one of this repository
    return Context(bench_zoo, data, tmp_path / "results", tmp_path / "work", tasks=2, scale=0.002, folders=none)


@pytest.fixture
def setting(context: Context) -> Setting:
    """What methods are given for the first target task."""
    row = Row("any", "any", "any", None)
    [task, *_] = target_tasks(context, row, context.zoo)
    return make_setting(context, row, context.zoo, context.prunable, task)
