"""Photographs at few pixels: crops, their batches, and accuracy over random lists."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.lite0 import WNIDS, at
from benchmarks.measurements.distil import CropBatches, resized
from benchmarks.measurements.photographs import Pictures, accuracy, lists, read
from benchmarks.measurements.teach import Crops, centre, random_box, squares
from mvp_edge.core.errors import ConfigError
from mvp_edge.names.wordnet import imagenet_classes

CPU = torch.device("cpu")


def some_crops(n: int, side: int, fill: int) -> Crops:
    images = np.full((n, side, side, 3), fill, np.uint8)
    return Crops(images, np.full((n, 1000), fill, np.float16), {"name": str(fill)})


def batches(seed: int = 0) -> CropBatches:
    return CropBatches([(some_crops(20, 12, 10), 1.0), (some_crops(10, 8, 200), 3.0)], at(8), 4, CPU, seed)


def test_batches_hold_one_set_with_its_logits_at_the_pixels_asked_for() -> None:
    source, seen = batches(), []
    for _ in range(200):
        batch = source.next()
        assert batch.images.shape == (4, 3, 8, 8)
        assert batch.teacher is not None
        (value,) = batch.teacher.unique().tolist()
        assert torch.allclose(batch.images, torch.full_like(batch.images, (value - 127) / 128), atol=1e-5)
        seen.append(value)
    assert 0.45 < seen.count(200) / 200 < 0.75  # weights times sizes: 30 of 50


def test_a_skipped_source_goes_on_where_it_was() -> None:
    one, other = batches(), batches()
    for _ in range(3):
        one.next()
    other.skip(3)
    assert [float(one.next().images.mean()) for _ in range(9)] == [float(other.next().images.mean()) for _ in range(9)]


@pytest.mark.parametrize("size", [(300, 200), (40, 90), (3, 100)])
def test_boxes_lie_inside_the_picture(size: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    for box in [centre(*size), *(random_box(*size, draw) for _ in range(50))]:
        left, top, right, bottom = box
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    assert centre(300, 200) == (50, 0, 250, 200)


def test_a_crop_comes_in_several_sizes() -> None:
    small, large = squares(Image.new("RGB", (64, 48), (9, 8, 7)), centre(64, 48), (8, 16))
    assert small.shape == (8, 8, 3) and large.shape == (16, 16, 3)
    assert (small == (9, 8, 7)).all()


def test_images_of_the_size_are_not_touched() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert resized(images, (8, 8)) is images
    assert resized(images, (4, 4)).shape == (2, 3, 4, 4)


def some_pictures(directory: Path, names: list[str]) -> Pictures:
    for name in names:
        (directory / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (4, 4)).save(directory / name)
    return read(directory)


def test_pictures_are_labelled_by_a_wnid_or_a_noun(tmp_path: Path) -> None:
    found = some_pictures(tmp_path, [f"{WNIDS[7]}_cock.jpg", f"{WNIDS[3]}/a.jpg", "umbrella/b.jpg", "crane/c.jpg"])
    shown = {p.name: found.groups[i] if i >= 0 else () for p, i in zip(found.files, found.labels, strict=True)}
    assert shown[f"{WNIDS[7]}_cock.jpg"] == (7,)
    assert shown["a.jpg"] == (3,)
    assert [imagenet_classes().names[i] for i in shown["b.jpg"]] == ["umbrella"]
    assert shown["c.jpg"] == ()  # a bird or a machine
    with pytest.raises(ConfigError, match="no pictures"):
        read(tmp_path / "nothing")


def test_lists_restrict_the_outputs(tmp_path: Path) -> None:
    pictures = some_pictures(tmp_path, [f"{wnid}/a.jpg" for wnid in WNIDS[:10]])
    right = np.full((10, 1000), -9, np.float32)
    right[:, :10] = 0
    right[np.arange(10), np.arange(10)] = 1
    chosen = lists(pictures, range(10), 200)
    assert accuracy(right, pictures, chosen) == 100
    beaten = right.copy()
    beaten[:, 9] = 2  # the most likely class of all pictures, which counts only where it is listed
    assert accuracy(beaten, pictures, chosen) == pytest.approx(100 * (1 - 0.5 * 0.8), abs=4)
