import gzip

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from mvp_edge.core.packed import Packed, in_full, read_stored
from mvp_edge.models.tensors import compress, deserialise, serialise


@pytest.mark.parametrize("packing", ["float16", "int8", "int8-fine"])
def test_numpy_reads_what_torch_reads(packing) -> None:
    torch.manual_seed(0)
    tensors = {
        "conv.weight": torch.randn(6, 4, 3, 3),
        "depthwise.weight": torch.randn(6, 1, 3, 3),
        "positions": torch.randn(1, 7, 5),
        "bias": torch.randn(6),
        "count": torch.tensor(3),
    }
    data = compress(serialise(tensors, packing, {"about": "x"}))
    (stored, meta), (expected, _) = read_stored(data), deserialise(data)
    found = in_full(stored)
    assert meta == {"about": "x"}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy())


def test_codes_stand_for_vectors_of_a_codebook() -> None:
    book = np.array([[1, 2], [3, 4]], np.float16)
    stored = {"w": np.array([[0, 1], [1, 1]], np.uint8), "w:book": book, "w:scale": np.array([1, 10], np.float32)}
    data = save(stored, {"w": "[2, 3, 1, 1]"})
    np.testing.assert_array_equal(in_full(read_stored(data)[0])["w"][:, :, 0, 0], [[1, 2, 3], [30, 40, 30]])
    form = read_stored(data)[0]["w"]
    assert isinstance(form, Packed)
    np.testing.assert_array_equal(form.rows([1]).values[:, :, 0, 0], [[30, 40, 30]])
    for damage in (
        {"w": np.array([[0, 2], [1, 1]], np.uint8)},
        {"w:scale": np.ones(3, np.float32)},
        {"w:book": np.ones((2, 4), np.float16)},
        {"w": np.array([[0, 1]], np.uint8)},
    ):
        with pytest.raises(ValueError, match="fit together"):
            read_stored(save({**stored, **damage}, {"w": "[2, 3, 1, 1]"}))
    for shape in ({}, {"w": "7"}, {"w": "[2, -3]"}, {"w": "x"}):
        with pytest.raises(ValueError):
            read_stored(save(stored, shape))


def test_depthwise_filters_are_not_packed_to_levels() -> None:
    weight = torch.randn(6, 1, 3, 3)
    assert torch.equal(deserialise(serialise({"w": weight}, "int8"))[0]["w"], weight.half().float())


def test_fine_levels_are_nearer() -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    errors = {
        p: float((deserialise(serialise({"w": weight}, p))[0]["w"] - weight).abs().mean())
        for p in ("int8", "int8-fine")
    }
    assert errors["int8-fine"] < 0.7 * errors["int8"]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=64), st.booleans())
def test_damaged_bytes_are_an_error(data: bytes, zipped: bool) -> None:
    with pytest.raises(ValueError):
        read_stored(gzip.compress(data) if zipped else data)
