"""What the exported graph looks like: the normalisation folded as far as it is exact, names, inventory, byte input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mvp_edge.core.errors import ExportError
from mvp_edge.export import OnnxClassifier, export_onnx, take_inventory, verify_onnx
from mvp_edge.export.graph import fold_normalisation, name_by_module, tidy
from mvp_edge.timing.session import open_session

INPUT: dict[str, Any] = {"input_size": (8, 6), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
LABELS = ("apple", "pear", "plum")


def small_net(padding: int, *, bias: bool = True, groups: int = 1) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 12, 2, 2, padding, bias=bias, groups=groups), nn.ReLU(), nn.Conv2d(12, 4, 3, padding=1)]
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def operators(path: Path) -> list[str]:
    return [n.op_type for n in onnx.load(path).graph.node]


@pytest.mark.parametrize(
    ("net", "head"),
    [
        (small_net(1), ["Sub", "Conv"]),
        (small_net(0), ["Conv", "Relu"]),
        (small_net(0, bias=False), ["Conv", "Relu"]),
        (small_net(0, groups=3), ["Sub", "Mul", "Conv"]),
    ],
    ids=["padded", "patches", "patches without bias", "grouped"],
)
@pytest.mark.parametrize("kind", ["float32-nchw", "uint8-nhwc"])
def test_the_normalisation_is_folded_where_that_is_exact(
    tmp_path: Path, net: nn.Module, head: list[str], kind: Any
) -> None:
    path = tmp_path / "m.onnx"
    export_onnx(net, path, **INPUT, labels=LABELS, metadata={}, input_format=kind)
    assert verify_onnx(path, net, **INPUT) <= 1e-5
    before = ["Transpose", "Cast"] if kind == "uint8-nhwc" else []
    assert operators(path)[: len(before) + len(head)] == before + head
    black = np.zeros((1, 3, 8, 6), np.uint8)  # where folding the mean into a padded convolution would show
    mean, std = (torch.tensor(INPUT[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = net((torch.from_numpy(black) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(OnnxClassifier(path).predict(black), expected, atol=1e-5)


def graph_of(pads: list[int], extra_reader: bool = False, auto_pad: str | None = None) -> onnx.GraphProto:
    def tensor(name: str, values: list[float], *shape: int) -> TensorProto:
        return numpy_helper.from_array(np.array(values, np.float32).reshape(shape), name)

    auto = {} if auto_pad is None else {"auto_pad": auto_pad}
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["centred"], "/Sub"),
        helper.make_node("Mul", ["centred", "scale"], ["normal"], "/Mul"),
        helper.make_node("Conv", ["normal", "w"], ["y"], "/model/conv/Conv", pads=pads, **auto),
    ]
    outputs = ["y", "normal"] if extra_reader else ["y"]
    return helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [tensor("mean", [1, 2], 1, 2, 1, 1), tensor("scale", [2, 4], 1, 2, 1, 1), tensor("w", [1, 10], 1, 2, 1, 1)],
    )


def test_folding_by_hand() -> None:
    graph = graph_of([0, 0, 0, 0])
    fold_normalisation(graph)
    assert [n.op_type for n in graph.node] == ["Conv"]
    stored = {t.name: numpy_helper.to_array(t).ravel().tolist() for t in graph.initializer}
    assert stored["w"] == [2, 40]
    assert stored[graph.node[0].input[2]] == [-(2 * 1 + 40 * 2)]


def test_what_another_node_or_the_app_reads_is_not_folded() -> None:
    graph = graph_of([0, 0, 0, 0], extra_reader=True)
    fold_normalisation(graph)
    assert [n.op_type for n in graph.node] == ["Sub", "Mul", "Conv"]


@pytest.mark.parametrize(("pads", "auto_pad"), [([0, 0, 0, 1], None), ([0, 0, 0, 0], "SAME_UPPER")])
def test_the_mean_is_not_folded_into_padding(pads: list[int], auto_pad: str | None) -> None:
    graph = graph_of(pads, auto_pad=auto_pad)
    fold_normalisation(graph)
    assert [n.op_type for n in graph.node] == ["Sub", "Conv"]


def test_nodes_and_tensors_are_named_by_module(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["/model/a/a.0/act/Relu_output_0"], "/model/a/a.0/act/Relu"),
        helper.make_node("Add", ["/model/a/a.0/act/Relu_output_0", "onnx::Add_3"], ["s"], "/model/a/a.0/Add"),
        helper.make_node("Mul", ["s", "onnx::Add_3"], ["t"], "/model/a/a.0/Mul"),
        helper.make_node("Sub", ["t", "s"], ["y"], "/Sub"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [helper.make_tensor("onnx::Add_3", TensorProto.FLOAT, [1], [2.0])])
    name_by_module(graph)
    onnx.checker.check_model(helper.make_model(graph))
    assert [n.name for n in graph.node] == ["a.0.act", "a.0.Add", "a.0.Mul", "Sub"]
    assert [list(n.input) for n in graph.node] == [
        ["x"],
        ["a.0.act", "a.0.Add.1"],
        ["a.0.Add", "a.0.Add.1"],
        ["a.0.Mul", "a.0.Add"],
    ]
    assert (graph.node[3].output[0], graph.initializer[0].name) == ("y", "a.0.Add.1")


def test_equal_names_are_told_apart() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], ""), helper.make_node("Relu", ["a"], ["y"], "")]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y])
    name_by_module(graph)
    assert [n.name for n in graph.node] == ["Relu", "Relu_2"]
    assert graph.node[1].input[0] == "Relu"


def test_unused_operator_sets_and_repeated_tensors_go() -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    twice = [helper.make_tensor(n, TensorProto.FLOAT, [1], [2.0]) for n in ("first", "second")]
    nodes = [helper.make_node("Add", ["x", "first"], ["a"]), helper.make_node("Add", ["a", "second"], ["y"])]
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], twice), opset_imports=sets)
    tidy(model)
    assert [o.domain for o in model.opset_import] == [""]
    assert [t.name for t in model.graph.initializer] == ["first"]
    assert model.graph.node[1].input[1] == "first"


def test_inventory(tmp_path: Path) -> None:
    net = small_net(1)
    export_onnx(net, tmp_path / "m.onnx", **INPUT, labels=LABELS, metadata={})
    found = take_inventory(tmp_path / "m.onnx")
    assert found.operators == {"Conv": 2, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Relu": 1, "Sub": 1}
    assert found.parameter_bytes == 4 * (sum(p.numel() for p in net.parameters()) + 3)  # and the mean
    assert found.file_bytes == (tmp_path / "m.onnx").stat().st_size
    assert found.file_bytes > found.parameter_bytes
    assert found.opset == 18


def test_inventory_of_other_domains_and_nothing(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    nodes = [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y])), tmp_path / "m.onnx")
    found = take_inventory(tmp_path / "m.onnx")
    assert found.operators == {"com.microsoft:Gelu": 1}
    assert found.parameter_bytes == 0


def test_inventory_of_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("hello")
    for name in ("m.onnx", "none.onnx"):
        with pytest.raises(ExportError, match="ONNX model"):
            take_inventory(tmp_path / name)


def test_byte_input(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export_onnx(small_net(1), path, **INPUT, labels=LABELS, metadata={}, input_format="uint8-nhwc")
    session = open_session(path)
    assert (session.layout, session.channels, session.input_size, session.dtype) == ("nhwc", 3, (8, 6), np.uint8)
    assert session.metadata["input_format"] == "uint8-nhwc"
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 6), dtype=np.uint8)
    assert session.feed(pixels).shape == (2, 8, 6, 3)
    assert session.feed(pixels)[1, 7, 5, 2] == pixels[1, 2, 7, 5]
    export_onnx(small_net(1), tmp_path / "f.onnx", **INPUT, labels=LABELS, metadata={})
    expected = OnnxClassifier(tmp_path / "f.onnx").predict(pixels)
    np.testing.assert_allclose(OnnxClassifier(path).predict(pixels), expected, atol=1e-5)
