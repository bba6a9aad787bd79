import gzip

import pytest
import torch
from torch import nn

from mvp_edge.models.tensors import Packing, compress, content_sha256, deserialise, load_weights, serialise

STATE = {
    "conv.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)),
    "norm.weight": torch.tensor([1e-7, 70000.0]),
    "norm.count": torch.tensor(3),
}


@pytest.mark.parametrize("packing", ["float16", "int8"])
def test_tensors_come_back(packing: Packing) -> None:
    data = serialise(STATE, packing, {"who": "me"})
    assert data == serialise(STATE, packing, {"who": "me"})
    for stored in (data, compress(data)):
        tensors, metadata = deserialise(stored)
        assert metadata == {"who": "me"}
        assert {k: (v.shape, v.dtype) for k, v in tensors.items()} == {k: (v.shape, v.dtype) for k, v in STATE.items()}
        assert torch.equal(tensors["norm.weight"], STATE["norm.weight"])


def test_int8_is_off_by_half_a_level_of_its_channel_at_most() -> None:
    weight = STATE["conv.weight"] * torch.tensor([1.0, 1e-3, 1e3, 0.0]).view(-1, 1, 1, 1)
    found = deserialise(serialise({"w": weight}, "int8"))[0]["w"]
    channels = weight.flatten(1)
    level = torch.maximum(channels.abs().amax(1) / 127, channels.std(1, correction=0) / 16)
    assert ((found - weight).flatten(1).abs().amax(1) <= level / 2 * 1.0001).all()


def test_a_bell_curve_takes_six_bits_and_its_tails_are_kept() -> None:
    weight = torch.randn(32, 2000, generator=torch.Generator().manual_seed(0))
    weight[0, 0] = 50.0
    data = compress(serialise({"w": weight}, "int8"))
    found = deserialise(data)[0]["w"]
    assert len(data) * 8 / weight.numel() < 6.3
    assert found[0, 0] == pytest.approx(50, abs=0.01)
    assert ((found - weight)[1:].std() / weight[1:].std()).item() == pytest.approx(1 / 16 / 12**0.5, rel=0.05)


@pytest.mark.parametrize("shape", [(64, 3, 3, 3), (192, 192), (1, 65, 192), (8, 16, 1, 1)])
def test_packing_again_costs_nothing(shape: tuple[int, ...]) -> None:
    """Three times is as often as a zoo of a bundled base packs it."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    once = serialise({"w": weight}, "int8")
    again = once
    for _ in range(2):
        again = serialise(deserialise(again)[0], "int8")
    assert again == once


def test_a_channel_without_its_lowest_levels_is_packed_again_as_if_new() -> None:
    weight = 0.01 * torch.tensor([[9.0, 11, 13, 127, -64, 0], [10, 12, 15, 27, -63, 0], [0, 0, 0, 0, 0, 0]])
    once = deserialise(serialise({"w": weight}, "int8"))[0]["w"]
    level = once.abs().amax(1, keepdim=True) / 127
    assert ((once - weight).abs() <= level.clamp(min=weight.std(1, correction=0, keepdim=True) / 16) / 2 * 1.0001).all()
    assert torch.equal(once[2], torch.zeros(6))


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:20] + b"\xff" * 9 + d[29:], lambda d: b""])
@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_bytes_are_refused(damage, compressed: bool) -> None:
    data = serialise(STATE, "int8")
    with pytest.raises(ValueError):
        deserialise(damage(compress(data) if compressed else data))


def test_identity_is_content() -> None:
    """Compression, memory layout, order and counters do not matter; names, shapes, types and values do."""
    weight = STATE["conv.weight"]
    state = {"a": weight, "b": torch.ones(2)}
    same = content_sha256(state)
    stored = serialise(state, "float16")
    files = (stored, compress(stored), gzip.compress(stored, 1, mtime=7))
    assert len({content_sha256(deserialise(f)[0]) for f in files}) == 1
    assert content_sha256({"b": torch.ones(2), "a": weight.to(memory_format=torch.channels_last)}) == same
    assert content_sha256({**state, "n.num_batches_tracked": torch.tensor(3)}) == same
    others = [
        {"a": weight},
        {"a": weight, "c": torch.ones(2)},
        {"a": weight.flatten(1), "b": torch.ones(2)},
        {"a": weight, "b": torch.ones(2, dtype=torch.int32)},
        {"a": weight, "b": torch.tensor([1.0, 2.0])},
    ]
    assert len({same, *map(content_sha256, others)}) == 6


def test_only_counters_may_be_missing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    state = {k: v.clone() + 1 for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    load_weights(model, state)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    for name in state:
        with pytest.raises(ValueError, match=f"{name} is missing"):
            load_weights(model, {k: v for k, v in state.items() if k != name})
    with pytest.raises(ValueError, match="2.weight is not part of the network"):
        load_weights(model, {**state, "2.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="1.bias"):
        load_weights(model, {**state, "1.bias": torch.ones(5)})
