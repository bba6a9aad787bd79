"""A network that teaches another one from scratch."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvp_edge.build.pretrain import pretrain
from mvp_edge.build.teaching import Taught, Teacher, load_teacher
from mvp_edge.config import FitConfig, FitOverrides, PretrainConfig
from mvp_edge.core.errors import ConfigError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import ImageSet, normalise, open_source
from mvp_edge.models.bases import Base, load_base
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.training.loop import BatchSource, predict
from mvp_edge.zoo.store import open_zoo
from tests.build.test_pretrain import Stopped
from tests.conftest import COLOURS

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def student(base: Base) -> Base:
    """What is to be trained normalises otherwise than its teacher."""
    return replace(base, name="student", mean=(0.1, 0.2, 0.3), std=(0.4, 0.3, 0.2))


def test_the_teacher_sees_the_same_images_and_answers_in_our_order(tiny_base: Path) -> None:
    base, model = load_base(str(tiny_base))
    ours, names = student(base), base.classes[::-1]
    with torch.no_grad():
        expected = model(normalise(IMAGES, base.mean, base.std)).flip(1)
        found = load_teacher(str(tiny_base), ours, names)(normalise(IMAGES, ours.mean, ours.std))
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_zoo_lends_its_largest_generalist_member(generalist_zoo: Path, tiny_zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(generalist_zoo, copied := tmp_path / "zoo")
    zoo = open_zoo(str(copied))
    best = max((i for i in zoo.infos() if i.kind == "generalist"), key=lambda i: i.plan.achieved)
    for info in zoo.infos():  # accuracy on test images decides nothing
        edited = replace(info, top1=0.0 if info.id == best.id else 100.0)
        (copied / "members" / info.id / "member.json").write_text(json.dumps(edited.to_json()))
    zoo = open_zoo(str(copied))
    images = normalise(IMAGES, zoo.base.mean, zoo.base.std)
    with torch.no_grad():
        expected = zoo.load(best).network(PrunableModel.of(zoo.base, zoo.load_base()))(images)
        assert torch.allclose(load_teacher(str(copied), zoo.base, best.task.names)(images), expected, atol=1e-5)
        specialist_only = open_zoo(str(tiny_zoo))
        expected = specialist_only.load_base()(images)
        assert torch.allclose(
            load_teacher(str(tiny_zoo), specialist_only.base, specialist_only.base.classes)(images), expected, atol=1e-5
        )


def test_teachers_that_do_not_suit(tiny_base: Path) -> None:
    base, _ = load_base(str(tiny_base))
    with pytest.raises(ConfigError, match="zebra"):
        load_teacher(str(tiny_base), base, (*base.classes, "zebra"))
    with pytest.raises(ConfigError, match="32 x 32.*64 x 64"):
        load_teacher(str(tiny_base), replace(base, input_size=(64, 64)), base.classes)


def test_every_augmented_batch_is_taught(tiny_base: Path) -> None:
    base, _ = load_base(str(tiny_base))
    data = ImageSet(IMAGES, torch.arange(5), base.classes)
    teacher = load_teacher(str(tiny_base), base, base.classes)
    source = Taught(BatchSource(data, base, FitConfig(iterations=4, batch_size=4), torch.device("cpu"), 0), teacher)
    for _ in range(3):
        batch = source.next()
        assert batch.teacher is not None
        assert not batch.teacher.requires_grad
        assert torch.allclose(batch.teacher, teacher(batch.images), atol=0.2)  # the batch may be in bfloat16


@pytest.fixture
def config(images: Path, tmp_path: Path) -> PretrainConfig:
    """Eight steps of a small transformer with a teacher."""
    teacher = PretrainConfig(
        "timm:test_resnet", str(images), tmp_path / "teacher.safetensors", epochs=0.5,
        fit=FitConfig(batch_size=12, lr=0.01), device="cpu",
    )  # fmt: skip
    pretrain(teacher, SilentProgress())
    return replace(
        teacher, base="timm:test_vit", out=tmp_path / "vit.safetensors", epochs=2,
        fit=FitOverrides(batch_size=12, distill=0.9), teacher=str(teacher.out), save_every=3,
    )  # fmt: skip


@pytest.mark.parametrize("steps", [4, 7])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(config: PretrainConfig, tmp_path: Path, steps: int) -> None:
    pretrain(config, SilentProgress())
    other = replace(config, out=tmp_path / "other.safetensors")
    with pytest.raises(KeyboardInterrupt):
        pretrain(other, Stopped(steps))
    torch.rand(1)  # whoever draws from the global stream must not matter
    pretrain(other, SilentProgress())
    assert other.out.read_bytes() == config.out.read_bytes()


def test_training_does_not_seed_the_global_stream(config: PretrainConfig) -> None:
    draws = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        pretrain(config, SilentProgress())
        draws.add(float(torch.rand(1)))
    assert len(draws) == 2


def test_the_recipe_tells_the_teacher(config: PretrainConfig) -> None:
    pretrain(config, SilentProgress())
    base, _ = load_base(str(config.out))
    assert base.classes == tuple(COLOURS)
    assert base.recipe.startswith("2 epochs, taught by teacher, AdamW ")


def test_the_teacher_changes_the_result(config: PretrainConfig) -> None:
    files = set()
    for changes in ({}, {"teacher": None}):
        pretrain(replace(config, **changes), SilentProgress())
        files.add(config.out.read_bytes())
    assert len(files) == 2


def test_a_teacher_without_weight(config: PretrainConfig) -> None:
    with pytest.raises(ConfigError, match="set --distill above 0"):
        pretrain(replace(config, fit=FitOverrides(batch_size=12)), SilentProgress())


def test_the_teacher_is_the_base_restricted_to_the_classes(prunable: PrunableModel, images: Path) -> None:
    data = open_source(str(images)).load(("tiger", "rose"), "train", prunable.base.input_size)
    teacher = Teacher(prunable, CPU)
    logits = teacher.logits(data)
    columns = [prunable.base.classes.index(n) for n in data.classes]
    whole = predict(prunable.model, data.images, prunable.base, CPU)[:, columns]
    assert logits is not None and (logits - whole).abs().max() < 0.2  # bfloat16
    again = teacher.logits(data)
    assert again is not None and torch.equal(again, logits)
    assert teacher.logits(replace(data, classes=("tiger", "spaceship"))) is None
