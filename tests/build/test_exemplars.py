"""Making a zoo's exemplars: complete, repeatable, and going on where it was stopped."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mvp_edge.build.exemplars import all_knowing, build_exemplars, schedule, share_exemplars
from mvp_edge.config import ExemplarConfig
from mvp_edge.core.errors import ConfigError, ZooError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.creation import create_zoo
from mvp_edge.zoo.exemplars import Exemplars
from mvp_edge.zoo.store import Zoo, open_zoo
from tests.transformers import small_vit

CPU = torch.device("cpu")
CONFIG = ExemplarConfig(per_class=2, steps=2, batch_size=6, crop=2, cutout=4)


@pytest.fixture
def zoo(tiny_zoo: Path, tmp_path: Path) -> Zoo:
    return open_zoo(str(shutil.copytree(tiny_zoo, tmp_path / "tiny")))


def prunable_of(zoo: Zoo) -> PrunableModel:
    return PrunableModel.of(zoo.base, zoo.load_base())


class Stopper(SilentProgress):
    """Interrupts at a step, and counts the steps."""

    def __init__(self, at: int = 10**9) -> None:
        self.at, self.steps = at, 0

    def stage(self, name: str, total: int | None = None):  # pyright: ignore[reportIncompatibleMethodOverride]
        import contextlib

        return contextlib.nullcontext(self)

    def advance(self, n: int = 1) -> None:
        self.steps += n
        if self.steps == self.at:
            raise KeyboardInterrupt


def build(zoo: Zoo, config: ExemplarConfig = CONFIG, progress: SilentProgress | None = None) -> Exemplars:
    return build_exemplars(zoo, prunable_of(zoo), config, device=CPU, seed=0, progress=progress or SilentProgress())


def test_every_class_gets_its_images(zoo: Zoo) -> None:
    made = build(zoo)
    assert made.labels.tolist() == [i for i in range(6) for _ in range(2)]
    assert made.classes == zoo.base.classes
    assert made.recipe["method"] == "inversion"
    assert made.recipe["critic_members"] == []
    stored = zoo.exemplars()
    assert stored is not None
    assert torch.equal(stored.images, made.images)
    assert stored.recipe == made.recipe
    assert not (zoo.directory / ".exemplars").exists()
    assert zoo.verify() == []


def test_a_base_that_cannot_be_inverted_takes_the_images_of_another(zoo: Zoo, tmp_path: Path) -> None:
    known = zoo.base.classes
    with pytest.raises(ZooError, match="has no generated images; make them with"):
        share_exemplars(zoo, zoo)
    build(zoo)
    vit, turned = small_vit(num_classes=4), (known[3], known[0], known[5], known[1])
    base = replace(zoo.base, name="vit", arch="vit", classes=turned, sha256="")
    other = create_zoo(tmp_path / "vit", base, vit)
    made, theirs = share_exemplars(other, zoo), zoo.exemplars()
    assert theirs is not None
    stored = other.exemplars()
    assert stored is not None
    assert stored.classes == turned
    assert stored.recipe == {**theirs.recipe, "base_sha256": zoo.base.sha256}
    for names in (turned, turned[:1]):
        assert torch.equal(stored.load(names).images, theirs.load(names).images)
    assert torch.equal(made.images, stored.images)
    stranger = create_zoo(tmp_path / "stranger", replace(base, classes=(*turned[:3], "spaceship")), vit)
    with pytest.raises(ZooError, match="no generated images of spaceship"):
        share_exemplars(stranger, zoo)
    assert stranger.exemplars() is None


def test_the_images_of_a_bundled_zoo_are_referred_to(zoo: Zoo, tmp_path: Path) -> None:
    bundled = open_zoo(None)
    theirs = bundled.exemplars()
    assert theirs is not None
    made = share_exemplars(zoo, bundled)
    again = open_zoo(str(zoo.path))
    stored = again.exemplars()
    assert stored is not None
    assert torch.equal(stored.images, made.images)
    assert torch.equal(stored.images, theirs.load(zoo.base.classes).images)
    assert not (zoo.directory / "exemplars.safetensors").exists()
    assert again.verify() == []
    assert again.summary()["exemplars"] == len(stored)
    own = build(again)  # own ones go first
    assert len(own) == 12
    shown = open_zoo(str(zoo.path)).exemplars()
    assert shown is not None
    assert torch.equal(shown.images, own.images)
    with pytest.raises(ZooError, match=r"has generated images of its own; remove .*exemplars.safetensors to take"):
        share_exemplars(again, bundled)
    with pytest.raises(ZooError, match="stays as installed"):
        bundled.borrow_exemplars("another")


def test_a_killed_build_goes_on_and_gives_the_same(zoo: Zoo, tiny_zoo: Path, tmp_path: Path) -> None:
    whole = build(open_zoo(str(shutil.copytree(tiny_zoo, tmp_path / "other"))))
    with pytest.raises(KeyboardInterrupt):
        build(zoo, progress=Stopper(at=3))
    assert zoo.exemplars() is None
    drafts = list((zoo.directory / ".exemplars").iterdir())
    assert len(drafts) == 1
    assert torch.equal(build(zoo).images, whole.images)


def test_a_damaged_draft_is_made_again(zoo: Zoo) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(zoo, progress=Stopper(at=3))
    (draft,) = (zoo.directory / ".exemplars").iterdir()
    draft.write_bytes(draft.read_bytes()[:-9])
    assert len(build(zoo)) == 12


def test_a_finished_set_is_kept_and_another_recipe_replaces_it(zoo: Zoo) -> None:
    first = build(zoo)
    progress = Stopper()
    assert torch.equal(build(zoo, progress=progress).images, first.images)
    assert progress.steps == 0
    second = build(zoo, replace(CONFIG, steps=3))
    assert not torch.equal(first.images, second.images)
    stored = zoo.exemplars()
    assert stored is not None
    assert stored.recipe["steps"] == 3


def test_a_damaged_set_is_repaired_by_making_it_again(zoo: Zoo) -> None:
    build(zoo)
    file = zoo.directory / "exemplars.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    assert len(build(zoo)) == 12
    assert zoo.verify() == []


def test_generalist_members_are_critics(generalist_zoo: Path, tmp_path: Path) -> None:
    zoo = open_zoo(str(shutil.copytree(generalist_zoo, tmp_path / "generalist")))
    members = sorted(i.id for i in zoo.infos() if i.kind == "generalist")
    assert len(members) == 2
    assert [i.id for i in all_knowing(zoo)] == members
    made = build(zoo)
    assert made.recipe["critic_members"] == members
    without = build(zoo, replace(CONFIG, critics=0.0))
    assert without.recipe["critic_members"] == []
    assert not torch.equal(made.images, without.images)


def test_batches_are_even_and_mixed() -> None:
    parts = schedule(10, ExemplarConfig(per_class=3, batch_size=8), seed=0)
    assert [len(p) for p in parts] == [8, 8, 7, 7]
    assert torch.cat(parts).bincount().tolist() == [3] * 10
    assert [sorted(p.tolist()) for p in schedule(5, ExemplarConfig(per_class=2, batch_size=5), 0)] == [[*range(5)]] * 2


def test_one_process_at_a_time(zoo: Zoo) -> None:
    with zoo.claim("exemplars"), pytest.raises(ZooError, match="another process"):
        build_exemplars(
            open_zoo(str(zoo.path)), prunable_of(zoo), CONFIG, device=CPU, seed=0, progress=SilentProgress()
        )  # fmt: skip


def test_a_base_without_class_names_is_refused(zoo: Zoo) -> None:
    prunable = prunable_of(zoo)
    nameless = replace(prunable, base=replace(prunable.base, classes=()))
    with pytest.raises(ConfigError, match="does not name its classes"):
        build_exemplars(zoo, nameless, CONFIG, device=CPU, seed=0, progress=SilentProgress())
