"""Networks for images of 32x32, and where a network has its classifier."""

from typing import Any

import pytest
import timm
import torch

from mvp_edge.core.errors import ConfigError
from mvp_edge.models.architectures import ARCHITECTURES, head_name, head_of


@pytest.mark.parametrize(("arch", "parameters"), [("resnet18-cifar", 11_220_132), ("vit-cifar", 4_045_156)])
def test_sizes(arch: str, parameters: int) -> None:
    model = ARCHITECTURES[arch](100).eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_the_transformer_has_64_tokens() -> None:
    model: Any = ARCHITECTURES["vit-cifar"](10)
    assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 192)


def test_the_classifier_is_found_or_missed() -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    assert head_name(model) == "fc" and head_of(model).out_features == 3
    with pytest.raises(ConfigError, match="linear"):
        head_of(timm.create_model("test_resnet", num_classes=0))
