"""Augmentation, normalisation and the order of the batches."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp_edge.data import augment, batches, evened, normalise

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


def _images(n: int, height: int = 12, width: int = 12, low: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(low, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_off_is_identity() -> None:
    images = _images(5)
    assert torch.equal(augment(images, _generator(), pad=0, cutout=0, flip=False), images)


def test_same_seed_same_result_and_input_untouched() -> None:
    images = _images(16)
    before = images.clone()
    first = augment(images, _generator(7), pad=2, cutout=4)
    assert torch.equal(first, augment(images, _generator(7), pad=2, cutout=4))
    assert not torch.equal(first, augment(images, _generator(8), pad=2, cutout=4))
    assert torch.equal(images, before)
    assert (first.shape, first.dtype, first.is_contiguous()) == (images.shape, torch.uint8, True)


def test_many_images_are_shifted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = augment(_images(20), _generator(), pad=2, cutout=0)
    monkeypatch.setattr(import_module("mvp_edge.data.batches"), "_SHIFTED", 6)
    assert torch.equal(augment(_images(20), _generator(), pad=2, cutout=0), whole)


def test_memory_format_of_the_input_does_not_matter() -> None:
    images = _images(9)
    other = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(images, _generator(), 3, 4), augment(other, _generator(), 3, 4))


def test_flip_alone_mirrors_about_half() -> None:
    images = _images(400, 2, 3)
    out = augment(images, _generator(), pad=0, cutout=0)
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    assert torch.all(mirrored | (out == images).flatten(1).all(1))
    assert 160 < int(mirrored.sum()) < 240


def test_crop_alone_is_a_window_of_the_padded_image() -> None:
    images = _images(300, 6, 5, low=1)
    out = augment(images, _generator(), pad=1, cutout=0, flip=False, mean=(0, 0, 0))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    seen = set()
    for image, source in zip(out, padded, strict=True):
        places = [(y, x) for y in range(3) for x in range(3) if torch.equal(image, source[:, y : y + 6, x : x + 5])]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 9


def test_each_setting_leaves_the_draws_of_the_others() -> None:
    images = _images(64, low=1)
    plain = augment(images, _generator(), pad=0, cutout=0, flip=True)
    holed = augment(images, _generator(), pad=0, cutout=4, flip=True, mean=(0, 0, 0))
    keep = holed != 0
    assert torch.equal(plain[keep], holed[keep])


@given(st.integers(1, 9), st.integers(0, 20))
@settings(max_examples=25, deadline=None)
def test_cutout_is_one_rectangle_of_the_mean_colour(size: int, seed: int) -> None:
    images = torch.full((8, 3, 10, 8), 255, dtype=torch.uint8)
    out = augment(images, _generator(seed), pad=0, cutout=size, flip=False, mean=MEAN)
    colour = torch.tensor([round(255 * m) for m in MEAN], dtype=torch.uint8)
    hole = (out == colour[:, None, None]).all(1)
    assert torch.equal(hole, (out != 255).any(1))
    for mask in hole:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns)
        assert 1 <= int(rows.sum()) <= size
        assert 1 <= int(columns.sum()) <= size


def test_border_and_hole_become_about_zero() -> None:
    images = torch.zeros((4, 3, 8, 8), dtype=torch.uint8)
    out = normalise(augment(images, _generator(), 0, 16, mean=MEAN), MEAN, STD)
    assert out.abs().amin() < 0.01


def test_empty_batch() -> None:
    assert augment(_images(0), _generator(), 4, 8).shape == (0, 3, 12, 12)


@pytest.mark.parametrize(("pad", "cutout"), [(-1, 0), (0, -1)])
def test_negative_settings(pad: int, cutout: int) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        augment(_images(1), _generator(), pad, cutout)


@pytest.mark.parametrize("images", [torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)])
def test_wrong_images(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="uint8 images"):
        augment(images, _generator(), 1, 0)
    with pytest.raises(ValueError, match="uint8 images"):
        normalise(images, MEAN, STD)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalise(memory_format: torch.memory_format) -> None:
    images = _images(3, 5, 7).contiguous(memory_format=memory_format)
    out = normalise(images, MEAN, STD)
    expected = (images / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(out, expected, atol=2e-6, rtol=0)
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)


@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 12), st.integers(0, 5))
@settings(deadline=None)
def test_batches_are_full_and_draw_equally(n: int, batch_size: int, steps: int, seed: int) -> None:
    drawn = list(batches(n, batch_size, steps, np.random.default_rng(seed)))
    assert [batch.shape for batch in drawn] == [(batch_size,)] * steps
    flat = np.concatenate([np.empty(0, dtype=np.int64), *drawn])
    counts = np.bincount(flat, minlength=n)
    assert len(counts) == n
    assert counts.max() - counts.min() <= 1
    again = list(batches(n, batch_size, steps, np.random.default_rng(seed)))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    for start in range(0, len(flat) - n + 1, n):
        assert sorted(flat[start : start + n]) == list(range(n))


def test_batches_reshuffle_every_epoch() -> None:
    first, second = batches(50, 50, 2, np.random.default_rng(0))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_batches_refuse(n: int, batch_size: int, steps: int) -> None:
    with pytest.raises(ValueError, match="need n >= 1"):
        batches(n, batch_size, steps, np.random.default_rng(0))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
@settings(deadline=None)
def test_small_classes_are_drawn_as_often_as_large_ones(labels: list[int]) -> None:
    rows = evened(torch.tensor(labels))
    assert set(rows.tolist()) == set(range(len(labels)))
    counts = [labels.count(label) for label in set(labels)]
    if max(counts) < 3 * min(counts):
        assert rows.tolist() == list(range(len(labels)))
    else:
        drawn = [labels[row] for row in rows.tolist()]
        assert [drawn.count(label) for label in set(labels)] == [max(counts)] * len(counts)
