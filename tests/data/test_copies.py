"""Copies among pictures: exact ones, near ones, and pictures that only resemble each other."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.fft import idctn

from mvp_edge.data import copies as module
from mvp_edge.data.copies import DISTANCE, alike, copies, prints


def _scenes(count: int, side: int = 64) -> torch.Tensor:
    """Return smooth random pictures with structure at several scales."""
    rng = np.random.default_rng(3)
    scenes = []
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8))
        scenes.append(np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).contiguous()


def _jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=60)
    return Image.open(stream).convert("RGB")


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda image: image,
    "saved again": _jpeg,
    "halved": lambda image: image.resize((32, 32)).resize((64, 64)),
    "darker by a fifth": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "of less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "brighter": lambda image: Image.fromarray((np.asarray(image).astype(int) + 12).clip(0, 255).astype(np.uint8)),
}


@pytest.mark.parametrize("kind", VARIANTS)
def test_variants_are_copies_of_their_originals_only(kind: str) -> None:
    scenes = _scenes(12)
    changed = [
        np.asarray(VARIANTS[kind](Image.fromarray(s.permute(1, 2, 0).numpy()))).transpose(2, 0, 1) for s in scenes
    ]
    groups = copies(prints(torch.cat([scenes, torch.from_numpy(np.stack(changed))])))
    assert groups.tolist() == [*range(12), *range(12)]


def test_plain_pictures_are_copies_only_if_they_are_the_same() -> None:
    colours = torch.tensor([10, 11, 200, 10], dtype=torch.uint8)
    images = colours[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    assert copies(prints(images)).tolist() == [0, 1, 2, 0]


def test_no_picture_and_one() -> None:
    assert copies(prints(_scenes(1)[:0])).tolist() == []
    assert copies(prints(_scenes(1))).tolist() == [0]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8), st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_no_near_hash_is_missed(roots: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = [sum(1 << int(b) for b in rng.permutation(64)[: rng.integers(0, 12)]) for _ in range(24)]
    hashes = np.array([roots[i % len(roots)] ^ b for i, b in enumerate(bits)], dtype=np.uint64)
    found = {tuple(pair) for pairs in module._candidates(hashes, np.arange(24)) for pair in pairs.tolist()}
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])
    assert found == {(i, j) for i in range(24) for j in range(i + 1, 24) if apart[i, j] <= DISTANCE}


def test_many_pictures_of_one_scene_are_one_group() -> None:
    rng = np.random.default_rng(0)
    scenes = _scenes(3, 48)[:, None].int() + torch.from_numpy(rng.integers(-6, 6, (3, 700, 3, 48, 48)))
    groups = copies(prints(scenes.clamp(0, 255).to(torch.uint8).flatten(0, 1)))
    assert groups.tolist() == [0] * 700 + [1] * 700 + [2] * 700
    exact = copies(prints(scenes.clamp(0, 255).to(torch.uint8).flatten(0, 1)), near=False)
    assert len(np.unique(exact)) == 2100


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_groups_do_not_depend_on_the_order(kinds: list[int], seed: int) -> None:
    scenes, rng = _scenes(4), np.random.default_rng(seed)
    images = [scenes[k].int() + torch.from_numpy(rng.integers(-9, 9, scenes[k].shape)) for k in kinds]
    originals = sorted({0, *kinds})  # two copies with noise of their own need not be alike without what they copy
    given = torch.stack([*images, *(scenes[k].int() for k in originals)]).clamp(0, 255).to(torch.uint8)
    order = rng.permutation(len(given))
    groups, again = copies(prints(given)), copies(prints(given[torch.from_numpy(order)]))
    same, also = groups[:, None] == groups, again[:, None] == again
    assert np.array_equal(same[order][:, order], also)
    shown = np.array([*kinds, *originals])
    assert np.array_equal(same, shown[:, None] == shown)


def test_pictures_of_a_fixed_camera_are_alike() -> None:
    assert alike(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert not alike(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    assert alike(np.array([0] * 10 + list(range(1, 21))), np.array([0] * 12 + [1] * 18))
    assert not alike(np.array([0] * 10 + list(range(1, 21))), np.array([0] * 30))
    assert not alike(np.array([0, 0, *range(1, 9)]), np.array([0, 1] * 5))
    assert not alike(np.empty(0, int), np.empty(0, int))


def test_pictures_of_one_hash_and_brightness_but_other_patterns_are_no_copies() -> None:
    """Coefficients of the cosine transform of the same signs and other sizes, of little contrast on a bright ground."""
    draw, waves = np.random.default_rng(2), []
    signs = draw.choice([-1, 1], (8, 8))
    for _ in range(2):
        coefficients = np.zeros((64, 64))
        coefficients[:8, :8] = signs * draw.uniform(0.3, 1, (8, 8))
        coefficients[0, 0] = 0
        wave = np.asarray(idctn(coefficients, norm="ortho"))
        waves.append(np.rint(190 + 20 * wave / wave.std()).astype(np.uint8))
    images = torch.from_numpy(np.stack(waves)[:, None].repeat(3, 1))
    seen = prints(images)
    assert int(np.bitwise_count(seen.hashes[0] ^ seen.hashes[1]).sum()) <= DISTANCE
    assert len(np.unique(copies(seen))) == 2
