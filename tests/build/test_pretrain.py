from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from mvp_edge.build.pretrain import Progressive, pretrain
from mvp_edge.config import FitConfig, PretrainConfig
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress, Stage
from mvp_edge.data import ImageSet
from mvp_edge.models.architectures import new_model
from mvp_edge.models.bases import find_base, load_base, read_tensors, save_base
from mvp_edge.training.loop import BatchSource
from tests.conftest import COLOURS

CPU = torch.device("cpu")
RESNET = find_base("timm:test_resnet")


class Stopped(SilentProgress):
    """Ctrl-C after some steps of training."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        yield self if name == "Training" else SilentProgress()

    def advance(self, n: int = 1) -> None:
        self._left -= n
        if self._left <= 0:
            raise KeyboardInterrupt


@pytest.fixture
def config(images: Path, tmp_path: Path) -> PretrainConfig:
    """Eight steps, the first four with images of 64 pixels instead of 160."""
    fit = FitConfig(batch_size=12, lr=0.01, cutout=40)
    base, out = RESNET.name, tmp_path / "base.safetensors"
    return PretrainConfig(
        base, str(images), out, epochs=2, fit=fit, device="cpu", save_every=3, small_size=64, small_epochs=1
    )


def source(batch_size: int = 4, size: tuple[int, int] = (32, 48)) -> BatchSource:
    pixels = torch.randint(0, 256, (9, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = ImageSet(pixels, torch.arange(9) % 2, ("a", "b"))
    config = FitConfig(iterations=6, batch_size=batch_size, cutout=8)
    return BatchSource(data, replace(RESNET, input_size=size), config, CPU, 5)


def test_the_first_batches_are_small() -> None:
    small, whole = Progressive(source(), (16, 24), 3), source()
    shapes = []
    for _ in range(6):
        mine, theirs = small.next(), whole.next()
        assert torch.equal(mine.labels, theirs.labels)
        assert mine.images.is_contiguous(memory_format=torch.channels_last)
        # Whatever the size, these are the same pictures: same crop, same hole, same colours.
        assert torch.allclose(mine.images.mean((2, 3)), theirs.images.mean((2, 3)), atol=0.02)
        shapes.append(tuple(mine.images.shape[2:]))
    assert shapes == [(16, 24)] * 3 + [(32, 48)] * 3


@pytest.mark.parametrize("passed", [1, 3, 5])
def test_skipped_batches_count_as_drawn(passed: int) -> None:
    whole, late = (Progressive(source(), (16, 24), 3) for _ in range(2))
    late.skip(passed)
    for _ in range(passed):
        whole.next()
    assert torch.equal(whole.next().images, late.next().images)


@pytest.mark.parametrize("steps", [3, 5, 7])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(config: PretrainConfig, tmp_path: Path, steps: int) -> None:
    pretrain(config, SilentProgress())
    other = replace(config, out=tmp_path / "other.safetensors")
    with pytest.raises(KeyboardInterrupt):
        pretrain(other, Stopped(steps))
    assert [p.name for p in tmp_path.glob(".*")] == [".other.safetensors.checkpoint"]
    pretrain(other, SilentProgress())
    assert other.out.read_bytes() == config.out.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_the_recipe_tells_the_sizes(config: PretrainConfig) -> None:
    found = pretrain(config, SilentProgress())
    base, _ = load_base(str(config.out))
    assert base.recipe.startswith("2 epochs, the first 1 at 64 px, SGD ")
    assert base.classes == tuple(COLOURS)
    assert (base.top1, found["n"]) == (found["top1"], 24)


def test_small_images_change_the_result_and_the_seed_repeats_it(config: PretrainConfig) -> None:
    def run(**changes: Any) -> bytes:
        pretrain(replace(config, **changes), SilentProgress())
        return config.out.read_bytes()

    first = run()
    torch.rand(1)  # whoever draws from the global stream must not matter
    assert run() == first
    assert run(seed=1) != first
    assert run(small_size=0, small_epochs=0) != first


def test_the_directory_of_the_file_is_made(config: PretrainConfig, tmp_path: Path) -> None:
    out = tmp_path / "models" / "mine" / "base.safetensors"
    pretrain(replace(config, out=out, epochs=1), SilentProgress())
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_a_checkpoint_of_another_run_is_refused(config: PretrainConfig, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, Stopped(5))
    (namesake := tmp_path / "elsewhere" / Path(config.data).name).parent.mkdir()
    shutil.copytree(config.data, namesake)
    changes = {"small_size": 96, "seed": 1, "base": "timm:test_convnext", "data": str(namesake)}
    for change in [{name: value} for name, value in changes.items()]:
        with pytest.raises(ConfigError, match="other settings"):
            pretrain(replace(config, **change), SilentProgress())


def test_a_checkpoint_from_other_weights_is_refused(config: PretrainConfig, tmp_path: Path) -> None:
    base, model = find_base(config.base), new_model("test_resnet", len(COLOURS))
    init = tmp_path / "init.safetensors"
    save_base(model, base, init)
    with pytest.raises(KeyboardInterrupt):
        pretrain(replace(config, init=init), Stopped(5))
    renamed = init.rename(tmp_path / "renamed.safetensors")
    with pytest.raises(KeyboardInterrupt):  # it goes on: the weights are the same
        pretrain(replace(config, init=renamed), Stopped(1))
    model.get_parameter("fc.bias").data += 1
    save_base(model, base, init)
    for other in (init, None):
        with pytest.raises(ConfigError, match="other settings"):
            pretrain(replace(config, init=other), SilentProgress())


def test_a_place_that_cannot_be_written_is_found_before_the_training(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("mvp_edge.build.pretrain.open_source", pytest.fail)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError, match=r"\(Read-only file system\)"):
        pretrain(config, SilentProgress())


@pytest.mark.parametrize(
    ("base", "size", "message"),
    [
        ("timm:test_resnet", 160, "160 x 160.* 1 to 159"),
        ("timm:test_convnext", 8, r"8 x 8 \(.+\).*--small-size"),
    ],
)
def test_sizes_that_the_base_cannot_take(config: PretrainConfig, base: str, size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pretrain(replace(config, base=base, small_size=size), SilentProgress())
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": float("nan")}, "epochs is nan"),
        ({"small_size": -1, "small_epochs": 1}, "small size is -1"),
        ({"small_size": 8, "small_epochs": 31}, r"small epochs is 31; it must be in \[0, 30\]"),
        ({"small_size": 8}, "give both or neither"),
        ({"small_epochs": 1}, "give both or neither"),
    ],
)
def test_settings_are_checked(tmp_path: Path, values: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        PretrainConfig("timm:test_resnet", "x", tmp_path, **values)


def head_after(config: PretrainConfig, init: Path) -> torch.Tensor:
    """Return the head's weights after a training that changes next to nothing."""
    fit = replace(config.fit, lr=1e-9, weight_decay=0)
    pretrain(replace(config, epochs=0.01, small_size=0, small_epochs=0, init=init, fit=fit), SilentProgress())
    return read_tensors(config.out)[0]["fc.weight"].float()


def test_given_weights_keep_the_rows_of_known_classes(config: PretrainConfig, tmp_path: Path) -> None:
    """Head rows follow the names; a head that knows other classes is replaced, one without names is kept."""
    base, model = load_base(str(_pretrained(config, tmp_path)))
    rows = model.get_parameter("fc.weight").detach()
    for names, expected in (
        (base.classes[::-1], rows.flip(0)),
        ((), rows),
        (("x", *base.classes[1:]), None),
    ):
        save_base(model, replace(base, classes=names), tmp_path / "init.safetensors")
        found = head_after(config, tmp_path / "init.safetensors")
        same = torch.allclose(found, rows if expected is None else expected, atol=1e-3)
        assert same == (expected is not None), names


def test_given_weights_of_another_number_of_classes_get_a_new_head(config: PretrainConfig, tmp_path: Path) -> None:
    base, model = load_base(str(_pretrained(config, tmp_path)))
    cast(Any, model).reset_classifier(9)
    save_base(model, replace(base, classes=()), tmp_path / "init.safetensors")
    assert len(head_after(config, tmp_path / "init.safetensors")) == len(COLOURS)
    assert load_base(str(config.out))[0].classes == tuple(COLOURS)


def _pretrained(config: PretrainConfig, directory: Path) -> Path:
    given = replace(config, out=directory / "given.safetensors")
    pretrain(given, SilentProgress())
    return given.out
