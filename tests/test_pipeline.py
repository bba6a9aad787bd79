from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvp_edge.config import FitConfig, PruneConfig, VoteConfig
from mvp_edge.data import ImageSet
from mvp_edge.pipeline import ENOUGH_IMAGES, MANY_IMAGES, compress, suited
from mvp_edge.runtime import SilentProgress, Stage


class Told(SilentProgress):
    """Remembers the stages and how many steps each has."""

    def __init__(self) -> None:
        self.steps: dict[str, int | None] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        self.steps[name] = total
        yield self


def test_keeping_everything_is_told(images: Path, tiny_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(tiny_zoo), device="cpu")
    found = compress(replace(config, vote=VoteConfig(keep=1), fit=FitConfig(iterations=0)))
    assert found["keep"]["achieved"] == 1
    assert "every unit is kept: this is the base model itself, and no vote changed it" in found["warnings"]


@pytest.mark.parametrize(("iterations", "asked"), [(0, None), (1, 4), (2, 8), (9, 24)])
def test_the_base_model_is_asked_about_the_images_that_training_sees(
    images: Path, tiny_zoo: Path, tmp_path: Path, iterations: int, asked: int | None
) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(tiny_zoo), device="cpu")
    fit = FitConfig(iterations=iterations, batch_size=4, lr=0.01, distill=0.5)
    told = Told()
    compress(replace(config, vote=VoteConfig(keep=0.5, align=4), fit=fit), told)
    assert told.steps["Reading train images"] == 24
    assert told.steps.get("Asking the base model") == asked


def test_fewer_images_train_more_gently() -> None:
    fit = FitConfig(iterations=100, lr=0.03)

    def images(*counts: int) -> ImageSet:
        labels = torch.cat([torch.full((n,), i) for i, n in enumerate(counts)])
        return ImageSet(torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8), labels, tuple("abc"[: len(counts)]))

    assert suited(fit, images(MANY_IMAGES, MANY_IMAGES)) == fit
    assert suited(fit, images(ENOUGH_IMAGES, 200)).lr == pytest.approx(0.03 * (ENOUGH_IMAGES + 200) / MANY_IMAGES)
    assert suited(fit, images(ENOUGH_IMAGES - 1, 5000)).iterations == 0
    assert suited(fit, images(500, 0)).iterations == 0


def test_a_member_is_delivered_as_it_is_where_images_are_few(images: Path, broad_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("tiger\napple\nrose\n")
    config = PruneConfig(tmp_path / "classes.txt", str(images), tmp_path / "out", zoo=str(broad_zoo), device="cpu")
    config = replace(config, vote=VoteConfig(keep=0.5, align=4), fit=FitConfig(iterations=2, batch_size=4, lr=0.01))
    report = compress(config)
    assert report["settings"]["fit"]["iterations"] == 0
    assert any("--schedule fixed" in w for w in report["warnings"])
    assert "delivered ONNX file" in report["accuracy"]["source"]
    report = compress(replace(config, schedule="fixed", force=True))
    assert report["settings"]["fit"]["iterations"] == 2
