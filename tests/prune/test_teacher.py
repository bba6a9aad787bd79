"""A larger body teaches a smaller one what photographs resemble, by a head that has seen no more of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mvp_edge.config import Budget, FitOverrides, PruneConfig
from mvp_edge.core.errors import DataError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.names.base_classes import resolve_to_base
from mvp_edge.names.tasks import Task, TaskClass
from mvp_edge.prune import teacher as teacher_module
from mvp_edge.prune.heads import Network, Photographs, parts_of
from mvp_edge.prune.job import compress
from mvp_edge.prune.pictures import read_pictures
from mvp_edge.prune.teacher import Teacher, teacher_for
from mvp_edge.report import Report
from mvp_edge.training.frozen_head import Choice, Kind
from mvp_edge.zoo.bodies import Body, BodyZoo

NAMES = ("apple", "tiger")


@pytest.fixture(autouse=True)
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are eight images of a class."""
    monkeypatch.setattr(teacher_module, "LEAST", 8)


def given(bodies: BodyZoo, body: Body, images: Path) -> Photographs:
    resolution = resolve_to_base(Task(tuple(TaskClass(n, None) for n in NAMES)), bodies.classes, pictured=True)
    pictures = read_pictures(open_source(str(images)), NAMES, (body.pixels, body.pixels), SilentProgress())
    return Photographs(bodies, resolution, Network.of(bodies, body), pictures, "colours")


def choice(top1: float) -> Choice:
    return Choice(Kind(prior=False, decay=1e-2), torch.zeros(0), None, top1, (), (0.0, 0.0))


def with_files(photographs: Photographs, files: tuple[str, ...]) -> Photographs:
    train = replace(photographs.train, files=files)
    return replace(photographs, pictures=replace(photographs.pictures, train=train))


def asked(photographs: Photographs, top1: float = 0.0) -> Teacher | None:
    return teacher_for(photographs, choice(top1), parts_of(photographs.train, 0), 0, SilentProgress())


def compress_smaller(tmp_path: Path, bodies: BodyZoo, images: Path, fit: FitOverrides) -> Report:
    task = tmp_path / "classes.txt"
    task.write_text("\n".join(NAMES))
    budget = Budget(macs=1.05 * bodies.bodies[1].macs)
    return compress(
        PruneConfig(
            task, str(images), out=tmp_path / "out", zoo=str(bodies.path), precision="fp32", device="cpu", fit=fit,
            budget=budget,
        )
    )  # fmt: skip


def test_the_largest_body_teaches_a_smaller_one(bodies: BodyZoo, images: Path) -> None:
    photographs = given(bodies, bodies.bodies[1], images)
    teacher = asked(photographs)
    assert teacher is not None and teacher.body == bodies.bodies[0].id and teacher.top1 > 0
    told = teacher.logits(torch.arange(len(photographs.train)))
    assert (told.argmax(1) == photographs.train.labels).float().mean() > 0.9


def test_a_teacher_is_fitted_to_some_photographs_alone(bodies: BodyZoo, images: Path) -> None:
    photographs = given(bodies, bodies.bodies[1], images)
    teacher = asked(photographs)
    assert teacher is not None
    some = torch.arange(0, len(photographs.train), 2)
    before = teacher.logits(some)[some]
    heads = replace(teacher.heads, labels=teacher.heads.labels.clone(), features=teacher.heads.features.clone())
    heads.labels[1::2], heads.features[1::2] = 0, 1e3
    assert torch.equal(replace(teacher, heads=heads).logits(some)[some], before)


def test_where_there_is_no_teacher(bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = given(bodies, bodies.bodies[1], images)
    assert asked(given(bodies, bodies.bodies[0], images)) is None  # none is larger
    assert asked(photographs, top1=100.0) is None  # none knows better
    train = photographs.train
    assert asked(with_files(photographs, ())) is None
    with pytest.raises(DataError, match=r"gone.png changed while this ran .* run the command again"):
        asked(with_files(photographs, ("gone.png", *train.files[1:])))
    monkeypatch.setattr(teacher_module, "LEAST", len(train) / len(NAMES) + 1)
    assert asked(photographs) is None
    monkeypatch.setattr(teacher_module, "LEAST", 1)
    monkeypatch.setattr(teacher_module, "MOST", len(train) - 1)
    assert asked(photographs) is None


@pytest.mark.parametrize("views", [True, False])
def test_each_training_is_taught_by_a_head_that_has_seen_as_little(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch, views: bool
) -> None:
    taught, logits = list[torch.Tensor](), Teacher.logits

    def told(self: Teacher, index: torch.Tensor) -> torch.Tensor:
        taught.append(index)
        return logits(self, index)

    def one_batch(model: nn.Module, source: Any, settings: Any, **_: object) -> None:
        batch = source.next()
        assert settings.distill > 0 and batch.teacher.shape == model(batch.images).shape
        assert torch.equal(batch.teacher.argmax(1), batch.labels)

    monkeypatch.setattr("mvp_edge.prune.learn.mistaken", lambda *_: True)
    monkeypatch.setattr("mvp_edge.prune.teacher.Teacher.logits", told)
    monkeypatch.setattr("mvp_edge.prune.learn.fit", one_batch)
    monkeypatch.setattr("mvp_edge.prune.learn.harmful", lambda *_: False)
    if not views:
        monkeypatch.setattr("mvp_edge.prune.learn.frozen_views", lambda *_: None)
    monkeypatch.setattr(
        "mvp_edge.prune.learn.teacher_for", lambda given, _, *rest: teacher_for(given, choice(0), *rest)
    )
    report = compress_smaller(tmp_path, bodies, images, FitOverrides(iterations=8, batch_size=8))
    assert report.body is not None and report.body.id == bodies.bodies[1].id and report.interpolation is not None
    *parts, whole = taught
    assert len(parts) == report.interpolation.folds and all(len(part) < len(whole) for part in parts)
    assert report.photographs is not None and report.photographs.teacher == bodies.bodies[0].id
    assert "taught by" in report.method and report.seconds["teach"] > 0 and report.settings.fit.distill == 0.5
    assert "Teacher" in (tmp_path / "out" / "report.html").read_text()


def test_without_distillation_there_is_no_teacher(
    tmp_path: Path, bodies: BodyZoo, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvp_edge.prune.learn.mistaken", lambda *_: True)
    monkeypatch.setattr("mvp_edge.prune.learn.teacher_for", lambda *_: pytest.fail("a teacher was asked"))
    monkeypatch.setattr("mvp_edge.prune.learn.harmful", lambda *_: False)
    report = compress_smaller(tmp_path, bodies, images, FitOverrides(iterations=1, distill=0.0))
    assert report.photographs is not None and report.photographs.teacher is None
    assert report.interpolation is not None and report.interpolation.weight in (0.0, 0.25)
