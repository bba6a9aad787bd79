"""Networks for images of 32x32."""

from typing import Any

import pytest
import torch

from mvp_edge.networks.architectures import ARCHITECTURES


@pytest.mark.parametrize(("arch", "parameters"), [("resnet18-cifar", 11_220_132), ("vit-cifar", 4_045_156)])
def test_sizes(arch: str, parameters: int) -> None:
    model = ARCHITECTURES[arch](100).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_the_transformer_has_64_tokens() -> None:
    model: Any = ARCHITECTURES["vit-cifar"](10)
    assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 192)
