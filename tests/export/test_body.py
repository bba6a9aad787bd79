"""Which weights of an exported network its graph computes with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from mvp_edge.export import export_onnx
from mvp_edge.export.body import rewritten, without_weights
from mvp_edge.models.norms import fold

SIZE = (8, 8)


class Scaled(nn.Module):
    """Values that are scaled by channel, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.linspace(0.5, 2, 6))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.reshape(1, -1, 1, 1)


def small(*middle: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).requires_grad_(False)
    network = nn.Sequential(first, nn.Conv2d(4, 6, 1), *middle, nn.ReLU(), nn.Flatten(), nn.Linear(216, 2)).eval()
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean, norm.bias.data = torch.rand(len(norm.bias)), torch.rand(len(norm.bias))
    return fold(network, SIZE)


def graph_of(network: nn.Module, path: Path) -> onnx.ModelProto:
    export_onnx(
        network, path, input_size=SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), labels=["a", "b"], metadata={}
    )
    return without_weights(onnx.load(path), {k: v.numpy() for k, v in network.state_dict().items()})


@pytest.mark.parametrize("middle", [[], [nn.BatchNorm2d(6)]])
def test_a_graph_computes_with_weights_after_training(tmp_path: Path, middle: list[nn.Module]) -> None:
    network = small(*middle)
    graph = graph_of(network, tmp_path / "model.onnx")
    assert rewritten(graph, network) == []
    with torch.no_grad():
        for p in (p for p in network.parameters() if p.requires_grad):
            p.mul_(1 + torch.rand(p.shape))
    state = {k: v.numpy() for k, v in fold(network, SIZE).state_dict().items()}
    used = {name for node in graph.graph.node for name in node.input}
    graph.graph.initializer.extend(onnx.numpy_helper.from_array(state[k], k) for k in sorted(used & state.keys()))
    pixels = torch.rand(2, 3, *SIZE)
    (found,) = ort.InferenceSession(graph.SerializeToString()).run(None, {"image": pixels.numpy()})
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    with torch.no_grad():
        assert np.asarray(found) == pytest.approx(network((pixels - shift) / scale).numpy(), abs=1e-4)


def test_rewritten_weights_are_named_if_they_are_trained(tmp_path: Path) -> None:
    network = small(Scaled())
    graph = graph_of(network, tmp_path / "model.onnx")
    assert rewritten(graph, network) == ["2.gamma"]
    assert rewritten(graph, network.requires_grad_(False)) == []
