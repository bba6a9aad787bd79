"""The file of generated images: what goes in comes out, and damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mvp_edge.core.errors import ZooError
from mvp_edge.zoo.exemplars import FILE, Exemplars, read_exemplars, write_exemplars
from mvp_edge.zoo.store import Zoo, open_zoo

REPAIR = "type this"
BASE = "a" * 64


def example() -> Exemplars:
    images = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Exemplars(images, torch.tensor([0, 0, 1, 1, 2, 2]), ("apple", "sweet_pepper", "rose"), BASE, {"steps": 3})


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / FILE
    assert read_exemplars(path, BASE, REPAIR) is None
    write_exemplars(path, example())
    found = read_exemplars(path, BASE, REPAIR)
    assert found is not None
    assert torch.equal(found.images, example().images)
    assert torch.equal(found.labels, example().labels)
    assert (found.classes, found.recipe, len(found)) == (example().classes, {"steps": 3}, 6)


def test_classes_are_found_by_name_in_any_spelling() -> None:
    chosen = example().load(["rose", "Sweet Pepper"])
    assert chosen.classes == ("rose", "Sweet Pepper")
    assert chosen.labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(chosen.images, example().images[[4, 5, 2, 3]])
    with pytest.raises(ZooError, match=r"no generated images of tulip, fern; give images with --data"):
        example().load(["tulip", "rose", "fern"])
    assert example().cover(["Sweet-Pepper", "rose"]) and not example().cover(["rose", "tulip"])


def damaged(path: Path, change: str) -> None:
    write_exemplars(path, example())
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif change == "pixels":
        data = bytearray(path.read_bytes())
        data[-30] ^= 1
        path.write_bytes(data)
    elif change == "no metadata":
        save_file(load_file(path), path)
    elif change == "format":
        save_file(load_file(path), path, {"mvp_edge": '{"format": 9}'})
    elif change == "no format":
        save_file(load_file(path), path, {"mvp_edge": "[]"})


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ("cut", "damaged.*type this"),
        ("pixels", "checksum; type this"),
        ("no metadata", "damaged.*type this"),
        ("no format", "damaged.*type this"),
        ("format", "format 9; this version reads 1"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: str, wanted: str) -> None:
    path = tmp_path / FILE
    damaged(path, change)
    with pytest.raises(ZooError, match=wanted):
        read_exemplars(path, BASE, REPAIR)


def test_those_of_another_base_are_refused(tmp_path: Path) -> None:
    write_exemplars(tmp_path / FILE, example())
    with pytest.raises(ZooError, match="another base model"):
        read_exemplars(tmp_path / FILE, "b" * 64, REPAIR)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot be written"):
        write_exemplars(tmp_path / "file" / FILE, example())


@pytest.fixture
def zoo(tiny_zoo: Path, tmp_path: Path) -> Zoo:
    import shutil

    return open_zoo(str(shutil.copytree(tiny_zoo, tmp_path / "tiny")))


def test_a_zoo_knows_its_exemplars(zoo: Zoo) -> None:
    assert zoo.exemplars() is None
    assert zoo.verify() == []
    assert zoo.summary()["exemplars"] == 0
    mine = Exemplars(example().images, example().labels, example().classes, zoo.base.sha256)
    write_exemplars(zoo.directory / FILE, mine)
    assert zoo.summary()["exemplars"] == 6
    assert zoo.verify() == []
    damaged(zoo.directory / FILE, "cut")
    (problem,) = zoo.verify()
    assert f"make them again with: mvp-edge zoo exemplars {zoo.path}" in problem
    with pytest.raises(ZooError, match="damaged"):
        zoo.exemplars()


def test_the_bundled_exemplars_are_sound_and_small() -> None:
    zoo = open_zoo(None)
    found = zoo.exemplars()
    assert found is not None
    assert found.classes == zoo.base.classes
    assert found.labels.bincount().min() >= 5
    assert found.images.shape[1:] == (3, *zoo.base.input_size)
    assert (zoo.path / FILE).stat().st_size <= 2 * 2**20
