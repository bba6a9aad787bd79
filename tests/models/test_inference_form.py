"""Fused branches and linear heads compute what the network of timm does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import nn

from mvp_edge.core.errors import ConfigError
from mvp_edge.models.architectures import head_name, head_of, set_head
from mvp_edge.models.inference_form import inference_form, with_linear_head
from mvp_edge.models.support import lively


def lively_network(arch: str, size: int = 64, **options: Any) -> nn.Module:
    return lively(timm.create_model(arch, num_classes=5, **options).eval(), torch.randn(2, 3, size, size))


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Some random weights amplify float32's rounding a thousandfold."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("arch", ["repghostnet_050", "dla46x_c", "nf_regnet_b0", "repvit_m0_9"])
def test_it_computes_the_same(arch: str) -> None:
    model = lively_network(arch)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        form = inference_form(model)
        torch.testing.assert_close(form(images), model(images), rtol=1e-3, atol=1e-3)
    assert form is not model and head_of(form).out_features == 5
    assert inference_form(form) is form


def test_a_network_that_has_the_form_is_returned_as_it_is() -> None:
    model = timm.create_model("resnet10t", num_classes=3).eval()
    assert inference_form(model) is model


def test_a_convolution_as_head_can_be_exchanged() -> None:
    model = with_linear_head(timm.create_model("dla46x_c", num_classes=5).eval())
    assert head_name(model) == "fc"
    set_head(model, nn.Linear(head_of(model).in_features, 2))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_two_heads_on_the_same_features_become_their_mean() -> None:
    model = timm.create_model("levit_128s", num_classes=5).eval()
    form = inference_form(model)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(form(images), model(images), rtol=1e-3, atol=1e-3)
    assert not any("head_dist" in name for name in form.state_dict())
    set_head(form, nn.Linear(head_of(form).in_features, 2))
    with torch.no_grad():
        assert form(images).shape == (2, 2)


def test_two_heads_on_different_tokens_are_refused() -> None:
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=5).eval()
    with pytest.raises(ConfigError, match="one linear"):
        head_of(inference_form(model))
