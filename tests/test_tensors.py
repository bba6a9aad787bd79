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
    level = weight.flatten(1).abs().amax(1) / 127
    assert ((found - weight).flatten(1).abs().amax(1) <= level / 2 * 1.0001).all()


def test_packing_again_changes_nothing() -> None:
    once = unpack(pack(STATE, "int8"))[0]
    twice = unpack(pack(once, "int8"))[0]
    assert all(torch.allclose(once[k].float(), twice[k].float(), rtol=1e-6) for k in STATE)


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:20] + b"\xff" * 9 + d[29:], lambda d: b""])
@pytest.mark.parametrize("squeezed", [True, False])
def test_damaged_bytes_are_refused(damage, squeezed: bool) -> None:
    data = pack(STATE, "int8")
    with pytest.raises(ValueError):
        unpack(damage(squeeze(data) if squeezed else data))
