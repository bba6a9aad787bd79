from __future__ import annotations

import warnings

import pytest
import timm
import torch
from torch import nn

from mvp_edge.models.macs import count_macs, count_params, nominal_training_flops


class Attention(nn.Module):
    """Three tokens of four channels, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = image.reshape(1, 2, 3, 2) * self.scale
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


def test_macs_by_hand() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),  # 8 * 6 places, 4 * 3 * 9 products
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),  # 4 * 3 places, 4 * 1 * 9
        nn.AdaptiveAvgPool2d(1),  # one per element read
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    assert count_macs(net, (8, 6)) == 48 * 108 + 12 * 36 + 12 * 4 + 20
    assert count_params(net) == 108 + 36 + 4 + 25


def test_fused_attention_counts() -> None:
    # 2 heads * 3 queries * 3 keys * (2 query + 2 value channels); the image has 3 * 2 * 2 = 2 * 3 * 2 numbers.
    assert count_macs(Attention(), (2, 2)) == 2 * 3 * 3 * (2 + 2)


def test_fused_equals_unfused_attention() -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
    fused = count_macs(net, (32, 32))
    for block in net.get_submodule("blocks").children():
        vars(block.get_submodule("attn"))["fused_attn"] = False
    assert count_macs(net, (32, 32)) == fused


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_macs_are_fvcores(name: str) -> None:
    net = timm.create_model(name, num_classes=5).eval()
    ours = count_macs(net, (32, 48))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(net, torch.zeros(1, 3, 32, 48))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert ours == analysis.total()


def test_counting_leaves_the_model_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    net[2].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    count_macs(net, (8, 8))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == [True, True, True, False]


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(3, 3)
    assert count_params(nn.Sequential(layer, layer)) == 12


@pytest.mark.parametrize(
    ("gmacs", "iterations", "batch", "tflops"), [(0.5555, 100, 128, 0.427), (4.0892, 100, 128, 3.14)]
)
def test_nominal_cost_reproduces_the_papers_rows(gmacs: float, iterations: int, batch: int, tflops: float) -> None:
    assert nominal_training_flops(round(gmacs * 1e9), 0.1, iterations, batch) / 1e12 == pytest.approx(tflops, rel=2e-3)
