import copy

import pytest
import timm
import torch
from torch import nn

from mvp_edge.training.quick_layers import quick_layers


def _gradients(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    network(images).float().square().mean().backward()
    return torch.cat([p.grad.flatten().float() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("pixels", [32, 48, 64])
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv2_050"])
def test_gradients_are_those_of_convolutions(name: str, pixels: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name).eval().to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, pixels, pixels).contiguous(memory_format=torch.channels_last)
    exact = _gradients(network, images)
    with quick_layers(network):
        near = _gradients(network, images)
    assert float((near - exact).norm()) < 1e-3 * float(exact.norm())
    assert torch.equal(_gradients(network, images), exact)  # as before afterwards


@pytest.mark.parametrize(
    ("size", "stride", "side"), [(3, 1, 2), (5, 1, 4), (5, 2, 7), (3, 2, 6), (5, 1, 16), (7, 2, 9)]
)
def test_each_kind_of_depthwise_convolution_agrees(size: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, size, stride, size // 2, groups=6).to(memory_format=torch.channels_last)
    images = torch.randn(5, 6, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    of = [images, *layer.parameters()]
    exact = torch.autograd.grad(layer(images).square().sum(), of)
    for bf16, error in ((False, 1e-5), (True, 0.05)):
        with quick_layers(layer), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            near = torch.autograd.grad(layer(images).float().square().sum(), of)
        for a, b in zip(exact, near, strict=True):
            assert torch.allclose(a, b, rtol=error, atol=error * float(a.abs().max()))


@pytest.mark.parametrize(("side", "dtype"), [(1, torch.float32), (2, torch.float32), (3, torch.bfloat16)])
def test_maps_smaller_than_the_kernel_stay_in_float32(side: int, dtype: torch.dtype) -> None:
    layer = nn.Conv2d(4, 4, 3, 2, 1).to(memory_format=torch.channels_last)
    with quick_layers(layer), torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(2, 4, side, side))
    assert out.dtype == dtype
    out.float().sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)


def test_copies_and_state_are_those_of_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 3))
    keys = list(network.state_dict())
    with quick_layers(network):
        copied = copy.deepcopy(network)
        assert list(network.state_dict()) == keys
        assert isinstance(network[0], nn.Conv2d)
    assert [type(m) for m in network] == [nn.Conv2d] * 3
    assert all(map(torch.equal, copied.parameters(), network.parameters()))
