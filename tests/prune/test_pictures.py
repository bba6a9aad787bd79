"""The images of a run: splits, copies, and the account of all files."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvp_edge.config import PruneConfig
from mvp_edge.core.errors import ConfigError, DataError
from mvp_edge.core.progress import SilentProgress
from mvp_edge.data import open_source
from mvp_edge.data.copies import NOTE
from mvp_edge.data.listing import FileReader
from mvp_edge.data.splits import divided, load_test
from mvp_edge.prune.heads import parts_of
from mvp_edge.prune.pictures import LEFT_OUT, LEFT_OUT_VAL, Pictures, open_data, read_pictures
from mvp_edge.prune.request import check_place


def _scene(folder: Path, name: str, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8))
    small.resize((48, 48), Image.Resampling.BICUBIC).save(folder / name)
    return folder / name


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed = 0
    for split, count in (("train", 6), ("test", 4)):
        for label in ("a", "b", "other"):
            for i in range(count):
                _scene(tmp_path / "data" / split / label, f"{i}.png", seed)
                seed += 1
    return tmp_path / "data"


def _read(root: Path) -> Pictures:
    return read_pictures(open_source(str(root)), ("a", "b"), (32, 32), SilentProgress())


def test_all_files_are_accounted_for(root: Path) -> None:
    (root / "notes.txt").write_text("x")
    (root / "train" / "a" / "bad.png").write_bytes(b"")
    found = _read(root)
    assert found.record.used == {"train": 12, "test": 8}
    assert found.record.aside == {
        "not pictures (.txt 1)": 1, "cannot be read": 1, "of classes or splits that this task does not use": 10,
    }  # fmt: skip
    assert found.record.given == 32 == sum(found.record.used.values()) + sum(found.record.aside.values())
    assert found.record.summary.startswith("32 files: 12 train, 8 test, of 2 classes; 12 set aside: ")
    assert (found.val, found.copied, found.record.copies) == (None, (), 0)


def test_copies_of_training_images_are_left_out_of_the_test(root: Path) -> None:
    for i in range(3):
        shutil.copy(root / "train" / "a" / f"{i}.png", root / "test" / "a" / f"copy{i}.png")
    with Image.open(root / "train" / "b" / "0.png") as image:
        image.resize((90, 90)).save(root / "test" / "b" / "resized.jpg", quality=80)
    found = _read(root)
    assert found.test is not None
    assert found.record.used == {"train": 12, "test": 8}
    assert found.record.aside[LEFT_OUT] == 4 == found.record.copies == len(found.copied)
    assert sorted(Path(path).name for path in found.test.files) == sorted(2 * [f"{i}.png" for i in range(4)])
    assert (str(root / "test/b/resized.jpg"), str(root / "train/b/0.png")) in found.record.copied
    assert "4 of 12 test images are copies of training images, such as" in found.warnings[-1]


def test_no_test_image_is_left(root: Path) -> None:
    for label in ("a", "b"):
        shutil.rmtree(root / "test" / label)
        shutil.copytree(root / "train" / label, root / "test" / label)
    found = _read(root)
    assert found.test is None
    assert "no test images remain, so the accuracy is unknown" in found.warnings[-1]
    assert found.record.given == sum(found.record.used.values()) + sum(found.record.aside.values())


def test_a_class_whose_test_images_are_all_copies_is_named(root: Path) -> None:
    shutil.rmtree(root / "test" / "b")
    shutil.copytree(root / "train" / "b", root / "test" / "b")
    found = _read(root)
    assert found.test is not None
    assert "no test images of b remain" in " ".join(found.warnings)


def test_bursts_are_on_one_side_of_a_split_of_ours(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(20):
            _scene(tmp_path / label, f"{label}{i}.png", 100 * ord(label) + i // 4)
    source = open_source(str(tmp_path))
    assert {split: source.count(None, split) for split in ("train", "test")} == {"train": 32, "test": 8}
    found = read_pictures(source, ("a", "b"), (32, 32), SilentProgress())
    assert found.record.used == {"train": 32, "test": 8}
    assert LEFT_OUT not in found.record.aside
    assert found.test is not None
    bursts = [
        {int(Path(p).stem[1:]) // 4 for p in files if Path(p).stem[0] == "a"}
        for files in (found.train.files, found.test.files)
    ]
    assert not bursts[0] & bursts[1]
    assert sum(map(len, bursts)) == 5
    assert "images changed sides" in found.warnings[1]
    again, copies = load_test(source, ("a", "b"), (32, 32), SilentProgress())
    assert copies == 0
    assert again.files == found.test.files
    assert again.sha256 == found.test.sha256
    for images in (found.train, found.test):
        fresh = source.load(("a", "b"), "train", (32, 32)).images, source.load(("a", "b"), "test", (32, 32)).images
        assert len(images.origins) == len(images) <= sum(map(len, fresh))
        assert [Path(path).parent.name for path in images.files] == ["ab"[i] for i in images.labels.tolist()]


def test_what_chooses_a_network_is_no_copy_of_a_test_image(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(20):
            _scene(tmp_path / label, f"{label}{i}.png", 100 * ord(label) + i // 4)
    fresh = open_source(str(tmp_path))
    source = divided(fresh, ("a", "b"), SilentProgress())
    tests = [{str(p) for p in s.load(("a", "b"), "test", (32, 32)).files} for s in (fresh, source)]
    assert tests[0] != tests[1]
    scenes = [{(Path(p).stem[0], int(Path(p).stem[1:]) // 4) for p in paths} for paths in (
        source.load(("a", "b"), "train", (224, 224)).files, tests[1],
    )]  # fmt: skip
    assert not scenes[0] & scenes[1]
    for size in ((32, 32), (224, 224)):  # networks of all sizes have the same test images
        found = read_pictures(source, ("a", "b"), size, SilentProgress())
        assert found.test is not None and set(found.test.files) == tests[1]
        assert found.train.groups is not None and len(found.train.groups.unique()) == 8
        assert (
            found.warnings.count("8 images changed sides, so that copies of a picture, such as bursts, are on one side")
            == 1
        )
    assert divided(source, ("a", "b"), SilentProgress()) is source


@pytest.mark.parametrize("most", [40, 39])
def test_few_images_are_read_once_for_the_largest_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("mvp_edge.data.splits.FEW", most)
    for label in ("a", "b"):
        for i in range(20):
            _scene(tmp_path / label, f"{label}{i}.png", 100 * ord(label) + i)
    source = divided(open_source(str(tmp_path)), ("a", "b"), SilentProgress(), keep=True)
    before = [source.load(("a", "b"), "train", (side, side), None, 5) for side in (224, 32)]
    (gone := Path(before[0].files[0])).unlink()
    for side, images in zip((224, 32), before, strict=True):
        if side == 224 and most == 40:
            again = source.load(("b", "a"), "train", (224, 224), None, 5)
            assert torch.equal(again.images, torch.cat([images.images[5:], images.images[:5]]))
            assert again.origins == (*images.origins[5:], *images.origins[:5])
        else:
            assert str(gone) in source.load(("a", "b"), "train", (side, side)).skipped


def test_images_that_cannot_be_read_leave_no_split_without_others(tmp_path: Path) -> None:
    for i in range(60):
        for label in ("a", "b"):
            _scene(tmp_path / label, f"{label}{i}.png", 100 * ord(label) + i // 4)
    source = open_source(str(tmp_path))
    assert isinstance(source.listing.reader, FileReader)
    bad = [source.listing.reader.files[split][0][0] for split in ("train", "test")]
    for path in bad:
        Path(path).write_bytes(b"")
    found = read_pictures(source, ("a", "b"), (32, 32), SilentProgress())
    assert sorted(found.train.skipped) == sorted(bad)  # the test split of a class may have nothing else
    assert sum(found.record.used.values()) == 118 and found.record.given == 120


def test_a_class_of_copies_with_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    for i in range(60):
        _scene(tmp_path / "a", f"a{i}.png", i)
        _scene(tmp_path / "b", f"b{i}.png", 999)
    source = open_source(str(tmp_path))
    assert isinstance(source.listing.reader, FileReader)
    Path(source.listing.reader.files["test"][1][0]).write_bytes(b"")
    found = read_pictures(source, ("a", "b"), (32, 32), SilentProgress())
    assert found.record.used == {"train": 107, "test": 12} and any("no test images of b" in w for w in found.warnings)


def test_groups_that_were_asked_for_are_kept_together(root: Path) -> None:
    source = open_source(str(root), r"(\d)\.png")  # as of six patients, each in both classes
    train = read_pictures(source, ("a", "b"), (32, 32), SilentProgress()).train
    assert train.groups is not None
    numbers = [int(Path(p).stem) for p in train.files]
    together = {(g, n) for g, n in zip(train.groups.tolist(), numbers, strict=True)}
    assert len(together) == 6 == len(set(numbers))
    for part in parts_of(train, 0):
        patients = {numbers[i] for i in part.tolist()}
        assert sorted(part.tolist()) == [i for i, n in enumerate(numbers) if n in patients]
    plain = _read(root).train
    assert plain.groups is not None and len(plain.groups.unique()) == len(plain)


def test_validation_images_that_are_copies_decide_nothing(root: Path) -> None:
    for label in ("a", "b"):
        (root / "val" / label).mkdir(parents=True)
        for i in range(2):
            shutil.copy(root / "train" / label / f"{i}.png", root / "val" / label / f"copy{i}.png")
        _scene(root / "val" / label, "own.png", 9000 + ord(label))
    found = _read(root)
    assert found.val is not None and [Path(p).name for p in found.val.files] == ["own.png", "own.png"]
    assert found.record.used == {"train": 12, "val": 2, "test": 8}
    assert found.record.aside[LEFT_OUT_VAL] == 4
    assert found.record.given == sum(found.record.used.values()) + sum(found.record.aside.values())
    assert "4 of 6 validation images are copies of training images: they are not used" in found.warnings


def test_a_split_of_ours_stays_without_copies(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(10):
            _scene(tmp_path / label, f"{i}.png", 100 * ord(label) + i)
    source = open_source(str(tmp_path))
    found = read_pictures(source, ("a", "b"), (32, 32), SilentProgress())
    assert found.test is not None
    assert found.train.sha256 == source.load(("a", "b"), "train", (32, 32)).sha256
    assert found.test.sha256 == source.load(("a", "b"), "test", (32, 32)).sha256
    assert len(found.warnings) == 1


def test_classes_of_one_picture_each(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(10):
            _scene(tmp_path / label, f"{label}{i}.png", ord(label))
    found = _read(tmp_path)
    assert found.test is None
    assert found.record.used == {"train": 20, "test": 0}
    assert "each class is one picture, copies of one, or one group" in " ".join(found.warnings)


@pytest.mark.parametrize("group_by", [None, "folder"])
def test_classes_too_small_to_test_on(tmp_path: Path, group_by: str | None) -> None:
    for seed, label in enumerate("ab"):
        _scene(tmp_path / label, f"{label}.png", seed)
        if group_by:
            _scene(tmp_path / label, f"{label} again.png", 2 + seed)
    source = open_source(str(tmp_path), group_by)
    found = read_pictures(source, ("a", "b"), (32, 32), SilentProgress())
    assert found.test is None
    assert found.record.used == {"train": 4 if group_by else 2, "test": 0}
    assert f"no class has two {'groups' if group_by else 'images'}" in found.warnings[0]
    assert "so the accuracy is unknown" in found.warnings[1]
    with pytest.raises(DataError, match="no test images for a, b|has no images to test on"):
        load_test(source, ("a", "b"), (32, 32), SilentProgress())


def test_a_class_too_small_to_test_on_beside_others(tmp_path: Path) -> None:
    _scene(tmp_path / "a", "one.png", 0)
    for i in range(20):
        _scene(tmp_path / "b", f"{i}.png", 1 + i)
    found = read_pictures(open_source(str(tmp_path)), ("b", "a"), (32, 32), SilentProgress())
    assert found.test is not None and found.test.labels.unique().tolist() == [0]
    assert found.record.given == 21 == sum(found.record.used.values()) + sum(found.record.aside.values())
    assert "no test images of a remain" in " ".join(found.warnings)


def test_a_result_in_a_folder_that_a_link_leads_to(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "train" / "a", tmp_path / "elsewhere" / "a")
    (root / "train" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    for out, inside in (("elsewhere/a/new/out", True), ("elsewhere/out", False), ("out", False)):
        config = PruneConfig(tmp_path / "classes.txt", str(root), out=tmp_path / out)
        check_place(config)
        with pytest.raises(ConfigError, match="is inside the data") if inside else nullcontext():
            open_data(config)


def test_a_fixed_camera_has_only_exact_copies(root: Path) -> None:
    for i, path in enumerate(sorted((root / "train").rglob("*.png")) + sorted((root / "test").rglob("*.png"))):
        with Image.open(_scene(root.parent, "scene.png", 7)) as image:
            pixels = np.asarray(image).astype(int) + np.random.default_rng(i).integers(-5, 5, (48, 48, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    shutil.copy(root / "train" / "a" / "0.png", root / "test" / "a" / "0.png")
    found = _read(root)
    assert NOTE in found.warnings
    assert found.record.aside[LEFT_OUT] == 1
    assert found.record.used == {"train": 12, "test": 7}


def test_groups_of_the_user_stay_as_they_are(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(10):
            _scene(tmp_path / label, f"{label}{i}.png", ord(label) + i // 5)
    source = open_source(str(tmp_path), r"(\d)\.png")
    found = read_pictures(source, ("a", "b"), (32, 32), SilentProgress())
    assert LEFT_OUT in found.record.aside


def test_leaks_are_named(root: Path) -> None:
    for split, count in (("train", 12), ("test", 8)):
        for label in ("a", "b"):
            for i in range(count):
                path = _scene(root / split / label, f"more{i}.png", 7000 + 100 * ord(label) + 50 * len(split) + i)
                if label == "b":
                    with Image.open(path) as image:
                        image.resize((60, 60)).save(path)
    shutil.rmtree(root / "train" / "other")
    for path in (root / "train" / "b").iterdir():
        with Image.open(path) as image:
            image.resize((60, 60)).save(path)
    found = _read(root)
    assert any("18 of 18 images of b have 60 x 60 pixels, and 0 of 18 others" in each for each in found.record.leaks)
    assert set(found.record.leaks) <= set(found.warnings)
    assert found.record.coarse is not None
    assert 0 <= found.record.coarse <= 100


def test_one_image_with_two_classes_is_named(root: Path) -> None:
    shutil.copy(root / "train" / "a" / "0.png", root / "train" / "b" / "wrong.png")
    found = _read(root)
    assert found.record.two_classes == ((str(root / "train/a/0.png"), str(root / "train/b/wrong.png")),)
    assert "the same image has two classes" in found.warnings[-1]


def test_a_validation_split_is_read_if_it_has_all_classes(root: Path) -> None:
    _scene(root / "validation" / "a", "v.png", 901)
    found = _read(root)
    assert found.val is None
    assert found.record.aside["of classes or splits that this task does not use"] == 11
    _scene(root / "validation" / "b", "v.png", 902)
    found = _read(root)
    assert found.val is not None
    assert found.record.used == {"train": 12, "val": 2, "test": 8}
    assert any("2 validation images decide nothing" in warning for warning in found.warnings)
