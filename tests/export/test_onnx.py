from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper
from torch import nn

from benchmarks import RESNET_ZOO
from mvp_edge.core.errors import ExportError
from mvp_edge.export import OnnxClassifier, export_onnx, verify_onnx
from mvp_edge.export.graph import tidy
from mvp_edge.models.prunable import PrunableModel
from mvp_edge.zoo.store import open_zoo
from tests.onnx_files import save_pool

INPUT: dict[str, Any] = {"input_size": (8, 6), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
LABELS = ("apple", "sweet pepper", "Ærø <b>")


class Net(nn.Module):
    """Plain, strided, grouped and depthwise convolutions with norms; dropout; an identity at the end."""

    def __init__(self) -> None:
        super().__init__()
        convs = [nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1, groups=4, bias=False)]
        convs += [nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 12, 1, bias=False)]
        layers = [nn.Sequential(c, nn.BatchNorm2d(c.out_channels), nn.ReLU(), nn.Identity()) for c in convs]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(12, 3), nn.Identity())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.fixture
def net() -> Net:
    generator = torch.Generator().manual_seed(0)
    net = Net()
    for module in net.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = torch.rand(tensor.shape, generator=generator) + (0.2 if tensor.ndim == 1 else -0.5)
    return net.eval()


@pytest.fixture
def file(net: Net, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    export_onnx(net, path, **INPUT, labels=LABELS, metadata={"task": "t1", "base": "resnet"})
    return path


def test_equals_eager_at_two_batch_sizes(net: Net, file: Path) -> None:
    assert 0 <= verify_onnx(file, net, **INPUT) <= 1e-4


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "regnetx_002", "test_convnext"])
def test_equals_eager_on_real_architectures(tmp_path: Path, name: str) -> None:
    model = timm.create_model(name, num_classes=3).eval().to(memory_format=torch.channels_last)
    size: dict[str, Any] = INPUT | {"input_size": (32, 32)}
    export_onnx(model, tmp_path / "m.onnx", **size, labels=LABELS, metadata={})
    assert verify_onnx(tmp_path / "m.onnx", model, **size) <= 1e-4
    nodes = {node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node}
    assert not nodes & {"BatchNormalization", "Identity", "Dropout", "Constant"}


def test_graph_is_clean(file: Path) -> None:
    model = onnx.load(file, load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds[:2] == ["Sub", "Conv"]  # the scale is folded, the mean is not: this convolution pads
    assert kinds.count("Conv") == 4
    assert not {"BatchNormalization", "Identity", "Dropout", "Constant"} & set(kinds)
    parts = (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output)
    assert not any(part.doc_string for part in parts)
    assert not any(len(part.metadata_props) for part in parts if part is not model)
    assert not len(model.graph.value_info)
    assert not any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer)


def test_interface(file: Path) -> None:
    graph = onnx.load(file).graph
    (image,), (logits,) = graph.input, graph.output
    assert (image.name, logits.name) == ("image", "logits")
    assert image.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["batch", 3, 8, 6]
    assert [d.dim_param or d.dim_value for d in logits.type.tensor_type.shape.dim] == ["batch", 3]


def test_metadata(file: Path) -> None:
    found = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert json.loads(found["labels"]) == list(LABELS)
    assert json.loads(found["input_size"]) == [8, 6]
    assert found["producer"].startswith("mvp-edge ")
    assert (found["task"], found["base"]) == ("t1", "resnet")


def test_size_is_about_four_bytes_a_parameter(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(64, 3))
    export_onnx(model.eval(), tmp_path / "m.onnx", **INPUT, labels=LABELS, metadata={})
    parameters = sum(p.numel() for p in model.parameters())
    assert 4 * parameters < (tmp_path / "m.onnx").stat().st_size < 4 * parameters * 1.03
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_same_model_same_bytes(net: Net, file: Path, tmp_path: Path) -> None:
    metadata = {"task": "t1", "base": "resnet"}
    export_onnx(net, tmp_path / "again.onnx", **INPUT, labels=LABELS, metadata=metadata)
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_normalisation_is_exact_at_the_border(net: Net, file: Path) -> None:
    black = np.zeros((1, 3, 8, 6), np.uint8)
    mean, std = (torch.tensor(INPUT[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        expected = net((torch.zeros(1, 3, 8, 6) - mean) / std).numpy()
    np.testing.assert_allclose(OnnxClassifier(file).predict(black), expected, atol=1e-4)


def test_another_network_is_refused(net: Net, file: Path) -> None:
    with torch.no_grad():
        net.get_parameter("head.3.bias").add_(0.01)
    with pytest.raises(ExportError, match=r"0\.01 at batch 1\b.* 0\.0001"):
        verify_onnx(file, net, **INPUT)


def test_large_logits_do_not_widen_the_tolerance(net: Net, tmp_path: Path) -> None:
    bias, path = net.get_parameter("head.3.bias"), tmp_path / "m.onnx"
    with torch.no_grad():
        bias[0] = 1000.0
    export_onnx(net, path, **INPUT, labels=LABELS, metadata={})
    with torch.no_grad():
        bias[1] += 0.001
    with pytest.raises(ExportError, match=r"0\.001 at batch 1\b.*1e\+03"):
        verify_onnx(path, net, **INPUT)


def deep_with_large_logits() -> nn.Sequential:
    """A network whose logits, sums of large numbers that almost cancel, float32 itself cannot tell to within 1e-4."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1), *(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=generator) * (0.3 if p.ndim > 1 else 1)
    net.get_parameter("6.weight").data *= 30
    return net.eval()


def test_what_float32_rounds_away_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, path = deep_with_large_logits(), tmp_path / "m.onnx"
    export_onnx(net, path, **INPUT, labels=LABELS, metadata={})
    difference = verify_onnx(path, net, **INPUT)
    assert difference > 1e-4  # the older rule would have refused it
    monkeypatch.setattr("mvp_edge.export.onnx.ROUNDING_TIMES", 0)
    with pytest.raises(ExportError, match=r"0\.0001"):
        verify_onnx(path, net, **INPUT)


def test_more_than_rounding_is_refused_where_rounding_is_large(tmp_path: Path) -> None:
    net, path = deep_with_large_logits(), tmp_path / "m.onnx"
    export_onnx(net, path, **INPUT, labels=LABELS, metadata={})
    allowed = 20 * verify_onnx(path, net, **INPUT)
    with torch.no_grad():
        net.get_parameter("6.bias").add_(allowed)
    with pytest.raises(ExportError, match="bug"):
        verify_onnx(path, net, **INPUT)


def test_the_base_of_a_zoo_and_a_member_of_each_breadth(tmp_path: Path) -> None:
    zoo = open_zoo(RESNET_ZOO)
    prunable = PrunableModel.of(zoo.base, zoo.load_base())
    members = {i.kind: i for i in zoo.infos()}
    networks = [
        (zoo.base.classes, prunable.model),
        *((i.task.names, zoo.load(i).network(prunable)) for i in members.values()),
    ]
    assert len(networks) > 1
    own: dict[str, Any] = {"input_size": zoo.base.input_size, "mean": zoo.base.mean, "std": zoo.base.std}
    for labels, network in networks:
        export_onnx(network, tmp_path / "m.onnx", **own, labels=labels, metadata={})
        assert verify_onnx(tmp_path / "m.onnx", network, **own) <= 1e-4


def test_not_a_number_is_refused(net: Net, tmp_path: Path) -> None:
    with torch.no_grad():
        net.get_parameter("head.3.bias")[0] = float("nan")
    export_onnx(net, tmp_path / "m.onnx", **INPUT, labels=LABELS, metadata={})
    with pytest.raises(ExportError, match="differ by nan"):
        verify_onnx(tmp_path / "m.onnx", net, **INPUT)


def test_fixed_batch_fails_verification(net: Net, file: Path) -> None:
    model = onnx.load(file)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, file)
    with pytest.raises(ExportError, match=r"\(7, 3, 8, 6\)"):
        verify_onnx(file, net, **INPUT)


def test_operator_without_onnx_form(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i0e(x.mean((2, 3)))

    with pytest.raises(ExportError, match="Odd .*opset 18"):
        export_onnx(Odd().eval(), tmp_path / "m.onnx", **INPUT, labels=LABELS, metadata={})
    assert not list(tmp_path.iterdir())


def test_directory_that_cannot_be_written(net: Net, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "none" / "m.onnx", tmp_path / "file" / "m.onnx"):
        with pytest.raises(ExportError, match="cannot be written"):
            export_onnx(net, path, **INPUT, labels=LABELS, metadata={})


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_write(net: Net, file: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    before = file.read_bytes()

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ExportError if isinstance(error, OSError) else KeyboardInterrupt):
        export_onnx(net, file, **INPUT, labels=LABELS, metadata={"other": "bytes"})
    assert file.read_bytes() == before
    assert len(list(file.parent.iterdir())) == 1


def test_programmer_mistakes(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ValueError, match="labels"):
        export_onnx(net, path, **INPUT, labels=LABELS, metadata={"labels": "[]"})
    with pytest.raises(ValueError, match="3,"):
        export_onnx(net, path, **INPUT, labels=LABELS[:2], metadata={})
    with pytest.raises(ValueError, match="call eval"):
        export_onnx(Net(), path, **INPUT, labels=LABELS, metadata={})
    with pytest.raises(ValueError, match="float32 on the CPU"):
        export_onnx(net.double(), path, **INPUT, labels=LABELS, metadata={})
    assert not path.exists()


def test_classifier_predicts_in_chunks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = OnnxClassifier(file)
    assert (classifier.labels, classifier.input_size) == (LABELS, (8, 6))
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 6), dtype=np.uint8)
    whole = classifier.predict(images)
    assert whole.shape == (7, 3)
    monkeypatch.setattr("mvp_edge.export.classifier.PREDICT_CHUNK", 3)
    np.testing.assert_allclose(classifier.predict(torch.from_numpy(images)), whole, atol=1e-5)
    assert classifier.predict(images[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match=r"float64 .* is required"):
        classifier.predict(images / 255)


@pytest.mark.parametrize(("dtype", "factor"), [(TensorProto.FLOAT, 255), (TensorProto.UINT8, 1)])
def test_classifier_of_fixed_batch_and_either_dtype(tmp_path: Path, dtype: int, factor: int) -> None:
    path = save_pool(tmp_path / "m.onnx", (4, 3, 8, 6), dtype, {"labels": json.dumps(LABELS)})
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 6), dtype=np.uint8)
    expected = images.mean((2, 3))
    np.testing.assert_allclose(OnnxClassifier(path).predict(images) * factor, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "has no metadata `labels`"),
        ({"labels": "no json"}, "has no metadata `labels`"),
        ({"labels": "[1, 2, 3]"}, "JSON list of class names is required"),
        ({"labels": "[]"}, "JSON list of class names is required"),
        ({"labels": '["one", "two"]'}, r"2 labels"),
    ],
)
def test_file_that_is_no_classifier(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        OnnxClassifier(save_pool(tmp_path / "m.onnx", metadata=metadata))


def test_classifier_of_grey_images(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="1 channels.*RGB"):
        OnnxClassifier(save_pool(tmp_path / "m.onnx", ("n", 1, 8, 8), metadata={"labels": '["a"]'}))


def test_classifier_of_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("hello")
    with pytest.raises(ExportError, match="cannot be loaded"):
        OnnxClassifier(tmp_path / "m.onnx")


def test_tidy_bypasses_no_ops_and_shares_constants() -> None:
    one = helper.make_tensor("", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Identity", ["x"], ["a"], doc_string="note"),
        helper.make_node("Constant", [], ["c1"], value=one),
        helper.make_node("Constant", [], ["c2"], value=one),
        helper.make_node("Add", ["a", "c1"], ["b"]),
        helper.make_node("Add", ["b", "c2"], ["c"]),
        helper.make_node("Dropout", ["c"], ["d"]),
        helper.make_node("Identity", ["d"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    unused = helper.make_tensor("unused", TensorProto.FLOAT, [1], [2.0])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], [unused]))
    tidy(model)
    onnx.checker.check_model(model)
    assert [(n.op_type, list(n.input), list(n.output)) for n in model.graph.node] == [
        ("Add", ["x", "c1"], ["b"]),
        ("Add", ["b", "c1"], ["y"]),
    ]
    assert [t.name for t in model.graph.initializer] == ["c1"]


def test_tidy_keeps_an_identity_that_is_the_whole_graph() -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    model = helper.make_model(helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y]))
    tidy(model)
    assert [n.op_type for n in model.graph.node] == ["Identity"]
