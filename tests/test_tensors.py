import pytest
import torch

from mvp_edge.tensors import pack, squeeze, unpack

STATE = {
    "conv.weight": torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)),
    "norm.weight": torch.tensor([1e-7, 70000.0]),
    "norm.count": torch.tensor(3),
}


@pytest.mark.parametrize("packing", ["float16", "int8"])
def test_tensors_come_back(packing: str) -> None:
    data = pack(STATE, packing, {"who": "me"})
    assert data == pack(STATE, packing, {"who": "me"})
    for stored in (data, squeeze(data)):
        tensors, metadata = unpack(stored)
        assert metadata == {"who": "me"}
        assert {k: (v.shape, v.dtype) for k, v in tensors.items()} == {k: (v.shape, v.dtype) for k, v in STATE.items()}
        assert torch.equal(tensors["norm.weight"], STATE["norm.weight"])


def test_int8_is_off_by_half_a_level_of_its_channel_at_most() -> None:
    weight = STATE["conv.weight"] * torch.tensor([1.0, 1e-3, 1e3, 0.0]).view(-1, 1, 1, 1)
    found = unpack(pack({"w": weight}, "int8"))[0]["w"]
    channels = weight.flatten(1)
    level = torch.maximum(channels.abs().amax(1) / 127, channels.std(1, correction=0) / 16)
    assert ((found - weight).flatten(1).abs().amax(1) <= level / 2 * 1.0001).all()


def test_a_bell_curve_takes_six_bits_and_its_tails_are_kept() -> None:
    weight = torch.randn(32, 2000, generator=torch.Generator().manual_seed(0))
    weight[0, 0] = 50.0
    data = squeeze(pack({"w": weight}, "int8"))
    found = unpack(data)[0]["w"]
    assert len(data) * 8 / weight.numel() < 6.3
    assert found[0, 0] == pytest.approx(50, abs=0.01)
    assert ((found - weight)[1:].std() / weight[1:].std()).item() == pytest.approx(1 / 16 / 12**0.5, rel=0.05)


def test_packing_again_costs_half_a_level_at_most() -> None:
    once = unpack(pack(STATE, "int8"))[0]["conv.weight"]
    twice = unpack(pack({"w": once}, "int8"))[0]["w"]
    level = once.flatten(1).std(1, correction=0).view(-1, 1, 1, 1) / 16
    assert ((once - twice).abs() <= level / 2 * 1.0001).all()


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:20] + b"\xff" * 9 + d[29:], lambda d: b""])
@pytest.mark.parametrize("squeezed", [True, False])
def test_damaged_bytes_are_refused(damage, squeezed: bool) -> None:
    data = pack(STATE, "int8")
    with pytest.raises(ValueError):
        unpack(damage(squeeze(data) if squeezed else data))
