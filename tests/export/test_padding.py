from pathlib import Path

import onnx
import pytest
import timm

from mvp_edge.export import export_onnx, verify_onnx

MEAN = STD = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("pixels", [32, 48, 80])
def test_same_padding_is_a_constant_of_each_convolution(tmp_path: Path, pixels: int) -> None:
    network, file = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval(), tmp_path / "model.onnx"
    export_onnx(network, file, input_size=(pixels, pixels), mean=MEAN, std=STD, labels=["a", "b", "c"], metadata={})
    operators = {node.op_type for node in onnx.load(file).graph.node}
    assert operators == {"Sub", "Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"}
    verify_onnx(file, network, (pixels, pixels), MEAN, STD)
